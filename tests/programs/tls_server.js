// SPDX-License-Identifier: MIT
// tls_server.js PORT KEY CERTIFICATE: https, HTTP/2 for who offers it, an answer of a few bytes; /slowN after N
// seconds.
"use strict";
const fs = require("fs");
const http2 = require("http2");
const [port, key, cert] = process.argv.slice(2);
const pair = { key: fs.readFileSync(key), cert: fs.readFileSync(cert) };

const server = http2.createSecureServer({ ...pair, allowHTTP1: true }, (request, response) => {
    const [, seconds] = request.url.match(/^\/slow([0-9.]+)/) || [0, 0];
    setTimeout(() => {
        response.setHeader("Content-Length", 9);
        response.end("It works\n");
    }, 1000 * seconds);
});
server.keepAliveTimeout = 60000;
server.listen({ port, host: "127.0.0.1", backlog: 256 });
