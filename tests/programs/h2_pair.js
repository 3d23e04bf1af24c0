// SPDX-License-Identifier: MIT
// h2_pair.js PORT [DIRECTORY]: Node as a client of HTTP/2 in the clear, for scripts/h2-pairs: pair.py has
// what is asked. Who finds its session closed opens another, and one that is refused asks no more.
"use strict";
const fs = require("fs");
const http2 = require("http2");
const [port, directory] = process.argv.slice(2);
const told = name => fs.existsSync(`${directory}/${name}`);
const sleep = ms => new Promise(wake => setTimeout(wake, ms));
const rows = { slow: [0, 0], loop: [0, 0], ten: [0, 0], idle: [0, 0] };

class Channel {
    get(path) {
        return new Promise((answered, failed) => {
            if (!this.session || this.session.closed || this.session.destroyed) {
                this.session = http2.connect(`http://127.0.0.1:${port}`);
                this.session.on("error", failed);
            }
            const stream = this.session.request({ ":path": path });
            let ended = false;
            stream.on("error", failed);
            stream.on("end", () => { ended = true; });
            stream.on("close", () => (ended && !stream.rstCode ? answered() :
                                      failed(new Error(`stream: ${stream.rstCode}`))));
            stream.resume();
        });
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
    while (await ask(row, channel, "/"))
        await sleep(1);
}

async function idle(channel) {
    while (!told("next"))
        await sleep(20);
    await ask("idle", channel, "/");
}

(async () => {
    const channels = [];
    for (let i = 0; i < 10; i++)
        channels.push(new Channel());
    await Promise.all(channels.map(channel => channel.get("/")));
    const all = [ask("slow", channels[0], "/slow3")];
    for (let i = 1; i < 5; i++)
        all.push(loop("loop", channels[i]));
    for (let i = 0; i < 10; i++)
        all.push(loop("ten", channels[5]));
    for (let i = 6; i < 10; i++)
        all.push(idle(channels[i]));
    await sleep(300);
    console.log("ready");
    await Promise.race([Promise.all(all), sleep(40000)]);
    console.log(Object.entries(rows).map(([row, [lost, asked]]) => `${row} ${lost}/${asked}`).join(" "));
    process.exit(0);
})();
