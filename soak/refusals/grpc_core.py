#!/usr/bin/env python3
"""The mix of refused and allowed calls, as test/interop/refusals/mix.go makes it, by grpc core."""

import argparse
import collections
import hashlib
import json
import random
import threading
import time

import grpc

CONNECTIONS = 4
WORKERS_ON_EACH = 2
LARGEST = 64 << 20
PIECE = 64 << 10
UPLOADS_AT_ONCE = 5
PATIENCE = 600
KINDS = ["Unary", "Down", "Up", "Chat"]

Plan = collections.namedtuple("Plan", "allowed kind size ending after")


class Mix:
    def __init__(self, options):
        self.options = options
        self.body = random.Random(options.seed).randbytes(LARGEST)
        self.lock = threading.Lock()
        self.left = options.calls
        self.refused = collections.Counter()
        self.allowed = collections.Counter()
        self.whole = 0
        self.failures = []
        with open(options.ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        self.channels = [
            grpc.secure_channel(
                options.address,
                credentials,
                options=[
                    ("grpc.ssl_target_name_override", "localhost"),
                    ("grpc.use_local_subchannel_pool", 1),
                    ("grpc.max_receive_message_length", -1),
                ],
            )
            for _ in range(CONNECTIONS)
        ]

    def call(self, channel, path, plan):
        """Makes a call and returns what came back; raises grpc.RpcError or grpc.FutureCancelledError."""
        body = self.body[: plan.size]
        timeout = None if plan.ending == "cancelled" else plan.after
        timer = None
        ended = threading.Event()

        def pieces():
            if plan.kind == "Hold":
                yield body
                ended.wait()
                return
            for start in range(0, len(body), PIECE):
                yield body[start : start + PIECE]

        try:
            if plan.kind == "Unary":
                call = channel.unary_unary(path).future(body, timeout=timeout)
            elif plan.kind == "Up":
                call = channel.stream_unary(path).future(pieces(), timeout=timeout)
            elif plan.kind == "Down":
                call = channel.unary_stream(path)(body, timeout=timeout)
            else:
                call = channel.stream_stream(path)(pieces(), timeout=timeout)
            if plan.ending == "cancelled":
                timer = threading.Timer(plan.after, call.cancel)
                timer.start()
            if plan.kind in ("Unary", "Up"):
                return call.result()
            return b"".join(call)
        finally:
            ended.set()
            if timer is not None:
                timer.cancel()

    def make(self, channel, plan):
        """Makes a call and checks that it ends as it must."""
        rpc = f"interop.{'Allowed' if plan.allowed else 'Refused'}/{plan.kind}"
        code, details, answer = grpc.StatusCode.OK, "", None
        try:
            answer = self.call(channel, "/" + rpc, plan)
        except grpc.FutureCancelledError:
            code = grpc.StatusCode.CANCELLED
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        body = self.body[: plan.size]
        expected = hashlib.sha256(body).digest() if plan.kind == "Up" else body
        is_cut = (plan.ending == "cancelled" and code == grpc.StatusCode.CANCELLED) or (
            plan.ending == "deadline" and code == grpc.StatusCode.DEADLINE_EXCEEDED
        )
        is_refused = (
            code == grpc.StatusCode.PERMISSION_DENIED
            and details == self.options.refusal.replace("{rpc}", rpc)
        )
        with self.lock:
            (self.allowed if plan.allowed else self.refused)[code.name] += 1
            if plan.allowed and plan.kind != "Hold" and answer == expected:
                self.whole += 1
                return
        if not (plan.kind == "Hold" and is_cut if plan.allowed else is_cut or is_refused):
            raise AssertionError(f"{plan} ended with {code.name}: {details}")

    def draw(self, source):
        allowed = source.randrange(5) == 0
        kind = source.choice(KINDS)
        size = source.randrange(1000)
        if size < 200:
            length = 0
        elif size < 700:
            length = 1 + source.randrange(1 << 10)
        elif size < 920:
            length = 1 + source.randrange(1 << 16)
        elif size < 990:
            length = 1 + source.randrange(1 << 20)
        else:
            length = LARGEST if not allowed or size == 999 else 0
        ends = source.randrange(10)
        if ends >= 2:
            return Plan(allowed, kind, length, "whole", PATIENCE)
        ending, after = "cancelled" if ends == 0 else "deadline", source.random() * 0.005
        if allowed:
            return Plan(allowed, "Hold", length % PIECE, ending, after + 0.02)
        return Plan(allowed, kind, length, ending, after)

    def guarded(self, work):
        try:
            work()
        except BaseException as error:  # The others must end, too.
            with self.lock:
                self.failures.append(str(error))

    def together(self, works):
        threads = [threading.Thread(target=self.guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failures:
            raise SystemExit("\n".join(self.failures))

    def worker(self, index):
        source = random.Random(self.options.seed * 1000 + index)
        while not self.failures:
            plan = self.draw(source)
            if not plan.allowed:
                with self.lock:
                    self.left -= 1
                    if self.left < 0:
                        return
            self.make(self.channels[index % CONNECTIONS], plan)

    def upload(self):
        for _ in range(self.options.uploads // UPLOADS_AT_ONCE):
            self.make(self.channels[0], Plan(False, "Up", LARGEST, "whole", PATIENCE))

    def run(self):
        begun = time.monotonic()
        self.together([self.upload] * UPLOADS_AT_ONCE)
        self.make(self.channels[0], Plan(True, "Up", LARGEST, "whole", PATIENCE))
        uploads_seconds = time.monotonic() - begun
        # Calls of all kinds, each refused and then allowed: the next call of a connection is not disturbed.
        for kind in KINDS:
            for size in (0, 1000, 1 << 20, LARGEST):
                self.make(self.channels[0], Plan(False, kind, size, "whole", PATIENCE))
                self.make(self.channels[0], Plan(True, kind, size % LARGEST, "whole", PATIENCE))
        self.together(
            [
                lambda index=index: self.worker(index)
                for index in range(CONNECTIONS * WORKERS_ON_EACH)
            ]
        )
        for channel in self.channels:
            channel.close()
        return {
            "refused": self.refused,
            "allowed": self.allowed,
            "whole": self.whole,
            "connections": CONNECTIONS,
            "uploads_seconds": uploads_seconds,
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--uploads", type=int, default=100)
    parser.add_argument("--refusal", default="")
    result = Mix(parser.parse_args()).run()
    print(json.dumps({"event": "done", "result": result}), flush=True)


main()
