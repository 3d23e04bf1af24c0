// SPDX-License-Identifier: MIT
// grpc_server.js PORT: grpc-js; /slowN is answered after N seconds, all else at once.
const grpc = require("@grpc/grpc-js");

const as_is = bytes => bytes;
const server = new grpc.Server();
server.addService({ get: {
    path: "/pair/get", requestStream: false, responseStream: false, requestSerialize: as_is,
    requestDeserialize: as_is, responseSerialize: as_is, responseDeserialize: as_is,
} }, {
    get: (call, answered) => {
        const [, seconds] = call.request.toString().match(/^\/slow(.*)/) || [0, 0];
        setTimeout(() => answered(null, Buffer.from("It works")), 1000 * seconds);
    },
});
server.bindAsync(`127.0.0.1:${process.argv[2]}`, grpc.ServerCredentials.createInsecure(), () => server.start());
