// SPDX-License-Identifier: MIT
// ws_server.js PORT: a WebSocket server by ws, with permessage-deflate. It answers each message with
// itself; "slow N" after N seconds, and "none" not at all. Prints "closed CODE" for each connection
// that a client has closed, and "gone" for each that ended without a Close.
'use strict';
const { WebSocketServer } = require('ws');

new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]), perMessageDeflate: true }).on(
    'connection', (connection) => {
        connection.on('message', (data, binary) => {
            const [word, seconds] = data.toString().split(' ');
            if (word !== 'none')
                setTimeout(() => connection.send(data, { binary }), word === 'slow' ? seconds * 1000 : 0);
        });
        connection.on('close', (code) => console.log(code === 1006 ? 'gone' : `closed ${code}`));
    });
