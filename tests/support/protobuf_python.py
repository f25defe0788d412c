# holdfast: reads delimited orders as Python's classes do, and writes them again.
# SPDX-License-Identifier: BSL-1.0
"""usage: protobuf_python.py DIRECTORY < DELIMITED > DELIMITED; DIRECTORY holds protobuf_values_pb2.py"""
import sys

sys.path.insert(0, sys.argv[1])
from google.protobuf.internal.decoder import _DecodeVarint32
from google.protobuf.internal.encoder import _VarintBytes
import protobuf_values_pb2

data = sys.stdin.buffer.read()
at = 0
while at < len(data):
    size, at = _DecodeVarint32(data, at)
    message = protobuf_values_pb2.order()
    message.ParseFromString(data[at : at + size])
    at += size
    again = message.SerializeToString(deterministic=True)
    sys.stdout.buffer.write(_VarintBytes(len(again)) + again)
