"""The protocol: imports no socket, select, threading, asyncio or time. Datagrams go in, datagrams and data come out."""
