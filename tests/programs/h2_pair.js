// SPDX-License-Identifier: MIT
// h2_pair.js node|https|grpcjs URL DIRECTORY: Node as a client of HTTP/2, or of HTTPS with an agent, or grpc-js,
// for scripts/h2-pairs; else as h2_pair.py.
"use strict";
const fs = require("fs");
const http2 = require("http2");
const https = require("https");
const [kind, url, directory] = process.argv.slice(2);
const told = name => fs.existsSync(`${directory}/${name}`);
const sleep = ms => new Promise(wake => setTimeout(wake, ms));
const rows = { slow: [0, 0], loop: [0, 0], ten: [0, 0], idle: [0, 0] };
if (kind === "grpcjs")
    rows.stream = [0, 0];
let untold = 0;

class Session {
    get(path) {
        return new Promise((answered, failed) => {
            if (!this.session || this.session.closed || this.session.destroyed) {
                this.session = http2.connect(url, { rejectUnauthorized: false });
                this.session.on("error", failed);
            }
            const stream = this.session.request({ ":path": path });
            let ended = false;
            stream.on("error", failed);
            stream.on("response", headers => { if (headers[":status"] !== 200)
                failed(new Error(`status ${headers[":status"]}`)); });
            stream.on("end", () => { ended = true; });
            stream.on("close", () => (ended && !stream.rstCode ? answered() :
                                      failed(new Error(`stream: ${stream.rstCode}`))));
            stream.resume();
        });
    }
}

class Call {
    constructor() {
        const grpc = require("@grpc/grpc-js");
        this.client = new grpc.Client(url.replace(/.*\//, ""), grpc.credentials.createInsecure(),
                                      { "grpc.use_local_subchannel_pool": 1 });
    }

    get(path) {
        const as_is = bytes => bytes, deadline = { deadline: Date.now() + 20000 };
        return new Promise((answered, failed) => this.client.makeUnaryRequest(
            "/pair/get", as_is, as_is, Buffer.from(path), deadline,
            (error, answer) => (error ? failed(error) : answered(answer))));
    }

    stream(count, on_message) {
        const as_is = bytes => bytes, deadline = { deadline: Date.now() + 35000 };
        return new Promise((ended, failed) => this.client.makeServerStreamRequest(
            "/pair/stream", as_is, as_is, Buffer.from(String(count)), deadline)
            .on("data", on_message).on("error", failed).on("end", ended));
    }
}

class Agent {
    constructor() {
        this.agent = new https.Agent({ keepAlive: true, rejectUnauthorized: false });
    }

    get(path) {
        return new Promise((answered, failed) => https.get(url + path, { agent: this.agent }, answer => {
            answer.on("error", failed).on("end", answered).resume();
            if (answer.statusCode !== 200)
                failed(new Error(`status ${answer.statusCode}`));
        }).on("error", failed));
    }
}

async function ask(row, channel, path) {
    try {
        await channel.get(path);
        rows[row][1]++;
        return true;
    } catch (error) {
        if (/ECONNREFUSED/.test(error.message)) // also where it is the cause
            return false;
        rows[row][0]++;
        rows[row][1]++;
        if (process.env.PAIR_SAYS)
            console.error(row, error.message);
        return false;
    }
}

async function loop(row, channel) {
    while (!told("next") && await ask(row, channel, "/"))
        await sleep(1);
}

async function stream(channel) {
    let left = Number(process.env.PAIR_STREAM || 30);
    rows.stream[1]++;
    try {
        await channel.stream(left, () => left--);
        untold += left > 0;
    } catch (error) {
        if (process.env.PAIR_SAYS)
            console.error("stream", error.message);
    }
    rows.stream[0] += left > 0;
}

async function idle(channel) {
    while (!told("next"))
        await sleep(20);
    await ask("idle", channel, "/");
}

(async () => {
    const channels = [];
    for (let i = 0; i < (kind === "grpcjs" ? 11 : 10); i++)
        channels.push(kind === "grpcjs" ? new Call() : kind === "https" ? new Agent() : new Session());
    await Promise.all(channels.map(channel => channel.get("/")));
    const all = [ask("slow", channels[0], "/slow3")];
    for (let i = 1; i < 5; i++)
        all.push(loop("loop", channels[i]));
    for (let i = 0; i < 10; i++)
        all.push(loop("ten", channels[5]));
    for (let i = 6; i < 10; i++)
        all.push(idle(channels[i]));
    for (let i = 0; i < 4 && kind === "grpcjs"; i++)
        all.push(stream(channels[10]));
    await sleep(300);
    console.log("ready");
    await Promise.race([Promise.all(all), sleep(40000)]);
    console.log(Object.entries(rows).map(([row, [lost, asked]]) => `${row} ${lost}/${asked}`).join(" ") +
                (untold ? ` (${untold} untold)` : ""));
    process.exit(0);
})();
