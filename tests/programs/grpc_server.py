# SPDX-License-Identifier: MIT
"""grpc_server.py PORT: grpcio; /slowN is answered after N seconds, all else at once; the method /pair/stream
answers N by N messages, a tenth of a second apart."""
import concurrent.futures
import sys
import time

import grpc


def answer(path, _):
    if path.startswith(b"/slow"):
        time.sleep(float(path[5:]))
    return b"It works"


def stream(count, _):
    for _ in range(int(count)):
        yield b"more"
        time.sleep(0.1)


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/pair/stream":
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(answer)


server = grpc.server(concurrent.futures.ThreadPoolExecutor(40), [Handler()])
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
