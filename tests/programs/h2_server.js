// SPDX-License-Identifier: MIT
// h2_server.js PORT|PATH: HTTP/2 in the clear with Node. /slowN is answered after N seconds, /streamN in N
// pieces with a pause of 0.4 s between two, all else at once.
const http2 = require("http2");

const server = http2.createServer();
server.on("stream", (stream, headers) => {
    const [, what, n] = headers[":path"].match(/^\/(slow|stream|)([0-9.]*)/);
    stream.on("error", () => {});
    stream.resume();
    stream.respond({ ":status": 200 });
    if (what === "slow") {
        setTimeout(() => stream.end("at last\n"), 1000 * Number(n));
    } else if (what === "stream") {
        let left = Number(n);
        const timer = setInterval(() => {
            stream.write("piece\n");
            if (--left === 0) {
                clearInterval(timer);
                stream.end("whole\n");
            }
        }, 400);
    } else {
        stream.end("It works\n");
    }
});
const at = process.argv[2];
server.listen(at.startsWith("/") ? { path: at } : { port: Number(at), host: "127.0.0.1" });
