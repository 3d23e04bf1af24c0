// SPDX-License-Identifier: MIT
// web_server.js [ADDRESS:]PORT|PATH[,...] FILE [WORKERS]: HTTP/1.1 with Node, as web_server.py has
// it; by so many processes (cluster), which get their connections over a socket. PATH: on a UNIX
// socket there.
const cluster = require("cluster");
const fs = require("fs");
const http = require("http");
const [addresses, file, workers] = process.argv.slice(2);

function respond(request, response, body) {
    const later = request.url.startsWith("/slow?") ? 1000 * Number(request.url.slice(6)) : 0;
    const answer = text => {
        response.setHeader("Content-Length", text.length);
        later ? setTimeout(() => response.end(text), later) : response.end(text);
    };
    if (request.method === "POST" || request.method === "PUT") {
        fs.writeSync(executed, body + "\n");
        answer(body);
    } else if (request.url === "/chunked") {
        response.write("one");
        response.write("two\n".repeat(1000));
        response.end("three");
    } else if (request.url === "/old") {
        response.useChunkedEncodingByDefault = false;
        response.shouldKeepAlive = false;
        response.write("to the end\n");
        response.end();
    } else if (request.url === "/" || later) {
        answer("It works\n");
    } else {
        response.writeHead(404).end("not here\n");
    }
}

function serve(port, host) {
    const server = http.createServer((request, response) => {
        const pieces = [];
        request.on("data", piece => pieces.push(piece));
        request.on("end", () => respond(request, response, Buffer.concat(pieces).toString()));
    });
    server.keepAliveTimeout = 60000;
    server.on("upgrade", (request, socket) => {
        socket.write("HTTP/1.1 101 Switching Protocols\r\n" +
                     "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        socket.on("data", data => socket.write(data));
        socket.on("end", () => socket.end());
    });
    server.on("connect", (request, socket) => {
        socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
        socket.on("data", data => socket.write(data));
        socket.on("end", () => socket.end());
    });
    if (host) {
        server.listen({ port, host, backlog: 256 });
    } else {
        fs.rmSync(port, { force: true });
        server.listen({ path: port, backlog: 256 });
    }
}

let executed;
if (workers && cluster.isPrimary) {
    for (let i = 0; i < workers; i++)
        cluster.fork();
} else {
    executed = fs.openSync(file, "a");
    for (const address of addresses.split(",")) {
        const [port, host] = address.split(":").reverse();
        if (port.startsWith("/"))
            serve(port);
        else
            serve(Number(port), host || "127.0.0.1");
    }
}
