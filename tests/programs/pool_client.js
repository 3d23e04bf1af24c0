// SPDX-License-Identifier: MIT
// pool_client.js [ADDRESS:]PORT SECONDS WORKERS [RATE [EACH]]: Node's http.Agent with keepAlive;
// else as pool_client.py. With RATE the workers do not pause: together they send so many POSTs a
// second, for ever if SECONDS is 0, each is announced by "sent ID", and takes EACH seconds.
const http = require("http");
const [port, host] = process.argv[2].split(":").reverse();
const [seconds, workers, rate, each = 0.01] = process.argv.slice(3).map(Number);
const agent = new http.Agent({ keepAlive: true, maxSockets: workers });
const begun = Date.now();
let end = seconds ? begun + seconds * 1000 : Infinity;

function post(id, done) {
    const options = { port, host: host || "127.0.0.1", path: `/slow?${each}`, method: "POST", agent,
                      timeout: 10000, headers: { "Content-Length": id.length, "X-Id": id } };
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
    if (Date.now() >= end)
        return;
    if (rate)
        console.log(`sent ${worker}-${number}`);
    post(`${worker}-${number}`, line => {
        console.log(line);
        pause(worker, number + 1);
    });
}

// Until a worker's next turn, which is at once where it is late.
function pause(worker, number) {
    const due = begun + 1000 * (number * workers + worker) / rate;
    setTimeout(work, rate ? Math.max(0, due - Date.now()) : Math.random() * 3, worker, number);
}

process.on("SIGTERM", () => (end = 0));
for (let worker = 0; worker < workers; worker++)
    rate ? pause(worker, 0) : work(worker, 1);
