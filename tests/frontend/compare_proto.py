#!/usr/bin/env python3
"""Compares frontend/onnx.proto with the schema of the installed onnx package.

Names, numbers, types, labels, packing, defaults, oneofs, enum values and
reserved names and numbers must agree. Prints the differences; exits with 1 if
there are any and with 77 (skipped) where onnx or protoc is not installed.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    from google.protobuf import descriptor_pb2
    from onnx import onnx_data_pb2, onnx_ml_pb2
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]


def parse_ours(proto, protoc):
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "set.pb"
        # protoc-c is protoc with one more generator and wants that to be used.
        subprocess.run(
            [protoc, f"--descriptor_set_out={out}", f"--c_out={scratch}",
             f"-I{proto.parent}", str(proto)], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    assert len(files.file) == 1
    return files.file[0]


def parse_published():
    merged = descriptor_pb2.FileDescriptorProto()
    for module in (onnx_ml_pb2, onnx_data_pb2):
        part = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(part)
        del part.dependency[:]
        merged.MergeFrom(part)
    return merged


def facts_of_enum(prefix, enum, facts):
    facts[f"enum {prefix}{enum.name}"] = "present"
    for value in enum.value:
        facts[f"enum {prefix}{enum.name}.{value.name}"] = value.number


def facts_of_message(prefix, message, facts):
    name = prefix + message.name
    field_type = descriptor_pb2.FieldDescriptorProto
    facts[f"message {name}"] = "present"
    for number in message.reserved_range:
        for reserved in range(number.start, number.end):
            facts[f"message {name} reserved {reserved}"] = "present"
    for reserved in message.reserved_name:
        facts[f"message {name} reserved {reserved}"] = "present"
    for field in message.field:
        oneof = None
        if field.HasField("oneof_index"):
            oneof = message.oneof_decl[field.oneof_index].name
        facts[f"field {name}.{field.name}"] = (
            f"number {field.number}, "
            f"{field_type.Label.Name(field.label)[6:].lower()} "
            f"{field_type.Type.Name(field.type)[5:].lower()} "
            f"{field.type_name}, packed {field.options.packed}, "
            f"default {field.default_value!r}, oneof {oneof}")
    for enum in message.enum_type:
        facts_of_enum(name + ".", enum, facts)
    for nested in message.nested_type:
        facts_of_message(name + ".", nested, facts)


def facts_of_file(proto):
    # A file without a syntax line is proto2.
    facts = {"package": proto.package, "syntax": proto.syntax or "proto2"}
    for enum in proto.enum_type:
        facts_of_enum("", enum, facts)
    for message in proto.message_type:
        facts_of_message("", message, facts)
    return facts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proto", nargs="?", type=pathlib.Path,
                        default=ROOT / "frontend" / "onnx.proto")
    args = parser.parse_args()
    protoc = shutil.which("protoc") or shutil.which("protoc-c")
    if protoc is None:
        print("skipped: no protoc")
        return 77
    ours = facts_of_file(parse_ours(args.proto, protoc))
    published = facts_of_file(parse_published())
    differences = [
        f"{key}: ours {ours.get(key, 'absent')}; "
        f"published {published.get(key, 'absent')}"
        for key in sorted(ours.keys() | published.keys())
        if ours.get(key) != published.get(key)
    ]
    print("\n".join(differences) if differences
          else f"{len(ours)} facts agree")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
