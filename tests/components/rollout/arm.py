"""A service that only says who it is: `arm.py NAME PORT`. GET /fault/<kind> makes it answer otherwise from then on."""

from __future__ import annotations

import asyncio
import json
import sys


async def main(name: str, port: int) -> None:
    fault = ""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal fault
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            path = head.split(b" ", 2)[1].decode()
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            await reader.readexactly(int(fields.get(b"content-length", b"0")))
            if path.startswith("/fault/"):
                fault = path.removeprefix("/fault/")
            status = "200 OK"
            if path == "/readyz":
                status = "503 Service Unavailable" if fault == "ill" else status
            elif fault == "reset":
                writer.transport.abort()
                return
            elif fault == "slow":
                await asyncio.sleep(30)
            elif fault in ("503", "500"):
                status = f"{fault} Fault"
            told = {name.decode(): value.decode() for name, value in fields.items()}
            body = json.dumps({"arm": name, "headers": told}).encode()
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(body), body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
