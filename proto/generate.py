"""Write pyprof_agent/formats/_schema.py from profile.proto: `make proto`.

protoc comes from the grpcio-tools wheel. The output holds the serialized
descriptor only, no generated code, so that it works with every protobuf
runtime the package supports.
"""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "pyprof_agent" / "formats" / "_schema.py"

TEMPLATE = '''\
"""Generated from proto/profile.proto by `make proto`: the serialized descriptor. Do not edit."""

from __future__ import annotations

FILE_DESCRIPTOR = (
{literals}
)
'''


def main() -> None:
    """Compile profile.proto and embed its FileDescriptorProto."""
    from google.protobuf import descriptor_pb2

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "profile.bin"
        status = protoc.main(
            ["protoc", f"-I{HERE}", f"--descriptor_set_out={output}", "profile.proto"]
        )
        if status:
            raise SystemExit(f"protoc failed with status {status}")
        files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    serialized = files.file[0].SerializeToString(deterministic=True)
    pieces = [serialized[at : at + 24] for at in range(0, len(serialized), 24)]
    literals = textwrap.indent("\n".join(repr(piece) for piece in pieces), "    ")
    TARGET.write_text(TEMPLATE.format(literals=literals))


if __name__ == "__main__":
    main()
