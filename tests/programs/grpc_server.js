// SPDX-License-Identifier: MIT
// grpc_server.js PORT: grpc-js; /slowN is answered after N seconds, all else at once; the method /pair/stream
// answers N by N messages, a tenth of a second apart.
const grpc = require("@grpc/grpc-js");

const as_is = bytes => bytes;
const method = (path, responseStream) => ({
    path, requestStream: false, responseStream, requestSerialize: as_is, requestDeserialize: as_is,
    responseSerialize: as_is, responseDeserialize: as_is,
});
const server = new grpc.Server();
server.addService({ get: method("/pair/get", false), stream: method("/pair/stream", true) }, {
    get: (call, answered) => {
        const [, seconds] = call.request.toString().match(/^\/slow(.*)/) || [0, 0];
        setTimeout(() => answered(null, Buffer.from("It works")), 1000 * seconds);
    },
    stream: call => {
        let left = Number(call.request);
        const next = () => (left-- ? call.write(Buffer.from("more")) : clearInterval(more) || call.end());
        const more = setInterval(next, 100);
        call.on("cancelled", () => clearInterval(more));
    },
});
server.bindAsync(`127.0.0.1:${process.argv[2]}`, grpc.ServerCredentials.createInsecure(), () => server.start());
