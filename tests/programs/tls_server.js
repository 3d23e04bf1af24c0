// SPDX-License-Identifier: MIT
// tls_server.js PORT KEY CERTIFICATE: https, an answer of a few bytes.
"use strict";
const fs = require("fs");
const https = require("https");
const [port, key, cert] = process.argv.slice(2);

const server = https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) },
    (request, response) => {
        response.setHeader("Content-Length", 9);
        response.end("It works\n");
    });
server.keepAliveTimeout = 60000;
server.listen({ port, host: "127.0.0.1", backlog: 256 });
