// SPDX-License-Identifier: MIT
// pool_client.js PORT SECONDS WORKERS: Node's http.Agent with keepAlive; else as pool_client.py.
const http = require("http");
const [port, seconds, workers] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true, maxSockets: workers });
const end = Date.now() + seconds * 1000;

function post(id, done) {
    const options = { port, host: "127.0.0.1", path: "/slow?0.01", method: "POST", agent,
                      timeout: 10000, headers: { "Content-Length": id.length } };
    const request = http.request(options, response => {
        let text = "";
        response.on("data", piece => (text += piece));
        response.on("error", error => done(`lost ${id}: ${error}`));
        response.on("end", () => response.statusCode === 200 && text === id
            ? done(`answered ${id}`) : done(`lost ${id}: ${response.statusCode} ${text}`));
    });
    request.on("error", error => error.code === "ECONNREFUSED" // nothing has been sent
        ? setTimeout(post, 50, id, done) : done(`lost ${id}: ${error}`));
    request.end(id);
}

function work(worker, number) {
    if (Date.now() < end)
        post(`${worker}-${number}`, line => {
            console.log(line);
            setTimeout(work, Math.random() * 3, worker, number + 1);
        });
}

for (let worker = 0; worker < workers; worker++)
    work(worker, 1);
