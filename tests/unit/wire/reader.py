# SPDX-License-Identifier: MIT
"""A reader of what two ferries say to each other.

Written only from docs/wire.md, and deliberately without a look at the C
codecs: where the two disagree, the page is unclear.  Each parse_* function
takes all octets of one direction of one connection and returns what is in
them; what the page calls refused raises Refused.
"""

import struct
import zlib

PAGE = 4096
ZLIB, ZSTD = 2, 4        # flags of packets
HUGE = 2 << 20
MIB = 1 << 20

TYPES = {1: "main", 2: "data", 3: "urgent", 4: "device"}
MOST = {"main": 1, "data": 64, "urgent": 8, "device": 64}


class Refused(Exception):
    pass


def need(ok, *why):
    if not ok:
        raise Refused(" ".join(str(w) for w in why))


class Octets:
    """A cursor; running out of octets is an error as any other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        need(n <= self.left(), "short by", n - self.left())
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, fmt):
        return struct.unpack(">" + fmt, self.take(struct.calcsize(fmt)))[0]

    def u8(self):
        return self.number("B")

    def be16(self):
        return self.number("H")

    def be32(self):
        return self.number("I")

    def be64(self):
        return self.number("Q")

    def name(self):
        raw = self.take(self.u8())
        need(raw and 0 not in raw, "name", raw)
        return raw.decode()

    def prose(self, most=480):
        n = self.be16()
        need(n <= most, "prose of", n)
        text = self.take(n).decode(errors="replace")
        return "".join(c if c.isprintable() else "?" for c in text)

    def end(self, what):
        need(self.left() == 0, what, "is", self.left(), "too long")


# ---- 3. Opening a connection -----------------------------------------------

def channel_header(o, magic):
    need(o.take(4) == magic, "magic")
    need(o.be16() == 1, "version")
    size = o.be16()
    need(48 <= size <= 4096, "header of", size)
    kind = TYPES.get(o.be16())
    need(kind, "type")
    index = o.be16()
    need(index < MOST[kind], "index", index)
    need(o.be32() == 0, "reserved")
    session = o.take(16)
    need(any(session), "session")
    offered, mandatory = o.be64(), o.be64()
    need(mandatory & ~offered == 0, "mandatory")
    mac = None
    if offered & 0x400 and magic == b"FERR":
        need(size >= 80, "no MAC in", size)
        mac = o.take(32)
        size -= 32
    o.take(size - 48)
    return {"type": kind, "index": index, "session": session.hex(),
            "features": offered, "mandatory": mandatory,
            "mac": mac and mac.hex()}


def item_name(o, h):
    raw = o.take(o.left())
    need(1 <= len(raw) <= 255 and 0 not in raw and "name" not in h, "NAME")
    h["name"] = raw.decode()


def item_block(o, h):
    size, page, gpa = o.be64(), o.be32(), o.be64()
    name = o.name()
    need(page in (PAGE, HUGE) and size and size % page == 0 and
         size <= 1 << 46, "BLOCK", name)
    blocks = h.setdefault("blocks", {})
    need(name not in blocks and len(blocks) < 256, "BLOCK", name)
    blocks[name] = (size, page, gpa)


def item_fact(o, h):
    rule, name = o.u8(), o.name()
    value = o.take(o.be16())
    need(rule in (1, 2) and len(value) <= 4096 and 0 not in value, "FACT")
    facts = h.setdefault("facts", {})
    need(name not in facts and len(facts) < 64, "FACT", name)
    facts[name] = (rule, value.decode())


def item_channels(o, h):
    data, urgent, device = o.be16(), o.be16(), o.be16()
    need("channels" not in h and 1 <= data <= 64 and urgent <= 8 and
         device <= 64, "CHANNELS")
    h["channels"] = (data, urgent, device)


def item_verdict(o, h):
    need("verdict" not in h, "VERDICT")
    h["verdict"] = (o.be32(), o.prose())


def item_software(o, h):
    h["software"] = o.take(o.left()).decode(errors="replace")


def item_bulk(o, h):
    instance, version, name = o.be32(), o.be32(), o.name()
    devices = h.setdefault("bulk", [])
    need((name, instance) not in [d[:2] for d in devices] and
         len(devices) < 64, "BULK", name)
    devices.append((name, instance, version))


ITEMS = {1: item_name, 2: item_block, 3: item_fact, 4: item_channels,
         5: item_verdict, 0x8006: item_software, 0x8010: item_bulk}


def hello(o, answer):
    size = o.be32()
    need(1 <= size <= MIB, "hello of", size)
    body, h = Octets(o.take(size)), {}
    while body.left():
        kind, zero, n = body.be16(), body.be16(), body.be32()
        need(zero == 0, "reserved")
        payload = Octets(body.take(n))
        if kind in ITEMS:
            ITEMS[kind](payload, h)
            payload.end("item %d" % kind)
        else:
            need(kind & 0x8000, "kind", kind)
    need("name" in h and ("verdict" in h) == answer and
         ("channels" in h) == (not answer), "hello")
    need("bulk" in h or h.get("channels", (0, 0, 0))[2] == 0,
         "device channels without a device")
    return h


# ---- 4. and 5. Commands, messages, sections --------------------------------

def ranges(o):
    need(o.u8() == 0, "ranges")
    block = o.name()
    need(o.u8() == 0, "ranges")
    spans = []
    while o.left():
        start, size = o.be64(), o.be64()
        need(size and start % PAGE == 0 and size % PAGE == 0, "range")
        spans.append((start, size))
    need(spans, "no range")
    return block, spans


def sequence(o):
    n = o.be32()
    need(n, "number 0")
    return n


def advise(o):
    sizes = o.be64()
    need(o.be64() == PAGE, "target page")
    return sizes


def verify(o):
    block, first = o.name(), o.be64()
    sums = []
    while o.left():
        sums.append(o.be32())
    need(sums, "no sum")
    return block, first, sums


def lease(o):
    ms = o.be32()
    need(1000 <= ms <= 3600000, "lease of", ms)
    return ms


def channel(o):
    kind, index = o.be16(), o.be16()
    need((kind == 2 and index < 64) or (kind == 3 and index < 8), "channel")
    return kind, index


def watch(o):
    on = o.be32()
    need(on <= 1, "WATCH", on)
    return on


def nothing(o):
    return None


COMMANDS = {
    1: ("OPEN_RETURN_PATH", nothing), 2: ("PING", Octets.be32),
    3: ("POSTCOPY_ADVISE", advise), 4: ("POSTCOPY_LISTEN", nothing),
    5: ("POSTCOPY_RUN", nothing), 6: ("RAM_DISCARD", ranges),
    7: ("PACKAGED", Octets.be32), 10: ("RECV_BITMAP", Octets.name),
    0x4601: ("ZERO_RANGES", ranges),
    0x4602: ("BARRIER", sequence), 0x4603: ("ABORT", Octets.prose),
    0x4604: ("FINISH", sequence), 0x4605: ("VERIFY", verify),
    0x4606: ("HEARD", nothing),
    0x4620: ("LEASE", lease), 0x4621: ("RENEW", sequence),
    0x4622: ("VOID", Octets.prose),
    0x4640: ("LOST", channel), 0x4641: ("WATCH", watch),
}


def table_entry(o, table, most):
    number, size = o.be16(), o.be16()
    need(number in table and size <= most, "number", number, "size", size)
    name, payload = table[number]
    body = Octets(o.take(size))
    value = payload(body)
    body.end(name)
    return name, value


def footer(o, section):
    need(o.u8() == 0x7e and o.be32() == section, "footer of", section)


def package(data):
    o, records = Octets(data), []
    if data[:5] == bytes.fromhex("0800040000"):
        o.take(5)
        records.append(("POSTCOPY_LISTEN", None))
    while o.left():
        need(o.u8() == 4, "not FULL")
        section, name = o.be32(), o.name()
        instance, version = o.be32(), o.be32()
        size = o.be32()
        need(size <= 64 * MIB, "device of", size)
        records.append((name, (instance, version, o.take(size))))
        footer(o, section)
    return records


# 2.3: what is legal in which phase, and where it leads.
LEGAL = {
    "begin": {"OPEN_RETURN_PATH": "begin", "POSTCOPY_ADVISE": "begin",
              "LEASE": "begin", "START": "pages", "ABORT": "done"},
    "pages": {"ZERO_RANGES": "pages", "RAM_DISCARD": "pages",
              "BARRIER": "pages", "ABORT": "done", "FINISH": "complete",
              "PACKAGED+LISTEN": "loading+postcopy"},
    "complete": {"BARRIER": "complete", "VERIFY": "complete",
                 "ABORT": "done", "PACKAGED": "loading"},
    "loading": {"ABORT": "done", "POSTCOPY_RUN": "done"},
    "loading+postcopy": {"ABORT": "done", "POSTCOPY_RUN": "running",
                         "WATCH": "loading+postcopy"},
    "running": {"BARRIER": "running", "VERIFY": "running",
                "WATCH": "running", "LOST": "running",
                "RECV_BITMAP": "running", "FINISH": "finished"},
    # A FINISH that a lost channel made void is followed by LOST.
    "finished": {"LOST": "running", "HEARD": "done"},
    "done": {"HEARD": "done"},
}


class Stream:
    """The main stream of S, behind the hello."""

    def __init__(self, o, page_sizes):
        self.o, self.page_sizes = o, page_sizes
        self.records, self.phase, self.sequence = [], "begin", 0
        self.advised = self.leased = self.lost = False

    def add(self, name, value=None):
        self.records.append((name, value))

    def enter(self, name, value):
        if name in ("PING", "RENEW"):
            return
        if name == "PACKAGED" and value[:1] == [("POSTCOPY_LISTEN", None)]:
            name += "+LISTEN"
            need(self.advised, "LISTEN without ADVISE")
        if name in ("BARRIER", "FINISH"):
            need(value == self.sequence + 1 or
                 (value > self.sequence and self.lost), name, value)
            self.sequence = value
        need(name != "RECV_BITMAP" or self.lost, "RECV_BITMAP before LOST")
        self.lost |= name == "LOST"
        need(name != "RAM_DISCARD" or self.advised, "DISCARD without ADVISE")
        need(name in LEGAL[self.phase], name, "while", self.phase)
        self.advised |= name == "POSTCOPY_ADVISE"
        self.leased |= name == "LEASE"
        self.phase = LEGAL[self.phase][name]
        if name == "POSTCOPY_RUN" and self.leased:
            self.phase = "running"

    def read(self):
        o = self.o
        if o.left() and o.data[o.at] != 8:      # else: ABORT in its place
            need(o.take(8) == b"QEVM\0\0\0\3", "file header")
            need(o.u8() == 7, "CONFIGURATION")
            self.add("CONFIGURATION", o.take(o.be32()).decode())
        while o.left():
            kind = o.u8()
            need(kind in (1, 8), "section", kind)
            if kind == 8:
                self.command()
            else:
                self.start()
        return self.records

    def command(self):
        name, value = table_entry(self.o, COMMANDS, 65535)
        if name == "PACKAGED":
            need(1 <= value <= 64 * MIB, "package of", value)
            value = package(self.o.take(value))
        self.enter(name, value)
        self.add(name, value)

    def start(self):
        o, section = self.o, self.o.be32()
        need(o.name() == "ram" and o.be32() == 0 and o.be32() == 4, "ram")
        self.enter("START", None)
        self.add("START")
        word = o.be64()
        need(word & 0xfff == 4, "no block list")
        self.block_list(word - 4)
        need(o.be64() == 0x10, "end of body")
        footer(o, section)

    def block_list(self, total):
        while total:
            name, size = self.o.name(), self.o.be64()
            need(0 < size <= total, "block", name)
            total -= size
            need(name in self.page_sizes, "block", name)
            page = self.page_sizes[name]
            if self.advised and page != PAGE:
                need(self.o.be64() == page, "page size of", name)
            self.add("BLOCK", (name, size))


def zero(o):
    need(o.be32() == 0, "not zero")
    return None


def request(o):
    start, size = o.be64(), o.be32()
    need(size and start % PAGE == 0 and size % PAGE == 0 and size <= 1 << 30,
         "request")
    return start, size


def device(o):
    number = o.be32()
    need(number < 64, "device", number)
    return number


MESSAGES = {
    1: ("SHUT", Octets.be32), 2: ("PONG", Octets.be32),
    3: ("REQ_PAGES_ID", lambda o: (*request(o), o.name())),
    4: ("REQ_PAGES", request), 0x4601: ("LOADED", zero),
    0x4602: ("RUNNING", zero), 0x4603: ("REASON", Octets.prose),
    0x4604: ("SYNCED", sequence), 0x4606: ("DIFFERS", Octets.prose),
    0x4610: ("BULK_CREDIT", lambda o: (device(o), o.be64())),
    0x4611: ("BULK_READY", device),
    0x4612: ("BULK_LOADED", lambda o: (device(o), o.be64())),
    0x4620: ("ASK_LEASE", sequence),
    0x4640: ("LOST", channel),
    0x4641: ("FAULTS", lambda o: (o.be32(), o.be32(), o.be32())),
}


# ---- whole connections ------------------------------------------------------

def parse_main(data):
    o = Octets(data)
    head = channel_header(o, b"FERR")
    need(head["type"] == "main", "type")
    said = hello(o, False)
    pages = {n: b[1] for n, b in said.get("blocks", {}).items()}
    return head, said, Stream(o, pages).read()


def parse_return(data):
    o, messages = Octets(data), []
    head = channel_header(o, b"FERA")
    need(head["type"] == "main" and head["mandatory"] == 0, "answer")
    said = hello(o, True)
    while o.left():
        messages.append(table_entry(o, MESSAGES, 512))
    return head, said, messages


def bulk_packet(o):
    number, flags, size, zero = o.be16(), o.be16(), o.be32(), o.be32()
    index = o.be64()
    last = flags & 0x200
    need(number < 64 and flags & ~0x303 == 0 and zero == 0 and
         size <= (0 if last else 256 << 10), "packet of a device")
    if last:
        return "LAST", number, flags, index
    return "STATE", number, flags, index, o.take(size)


def parse_packets(data):
    o, packets, stream = Octets(data), [], None
    head = channel_header(o, b"FERR")
    need(head["type"] in ("data", "urgent", "device"), "type")
    while o.left():
        if o.data[o.at:o.at + 4] == b"FBLK":
            need(head["type"] != "urgent", "a device on urgent")
            o.take(4)
            packets.append(bulk_packet(o))
            continue
        need(head["type"] != "device", "pages on device")
        need((o.be32(), o.be32()) == (0x11223344, 1), "magic")
        flags, room, normal, payload = o.be32(), o.be32(), o.be32(), o.be32()
        number, zeroes = o.be64(), o.be32()
        need(flags in (0, 1, ZLIB, ZSTD) and room <= 128 and
             normal + zeroes <= room, "counts")
        if flags in (ZLIB, ZSTD) and normal:
            need(head["type"] == "data" and 0 < payload < normal * PAGE,
                 "compressed payload")
        else:
            need(payload == normal * PAGE, "payload")
        o.take(4 + 24)
        name = o.take(256).split(b"\0")[0].decode()
        offsets = [o.be64() for _ in range(128)][:normal + zeroes]
        need(all(a % PAGE == 0 for a in offsets), "offset")
        need(bool(offsets) != bool(flags & 1), "SYNC with pages, or neither")
        if flags & 1:
            packets.append(("SYNC", number))
            continue
        content = o.take(payload)
        if flags == ZLIB and normal:
            stream = stream or zlib.decompressobj()
            content = stream.decompress(content)
            need(len(content) == normal * PAGE and not stream.eof, "zlib")
        elif normal:
            stream = None       # behind a packet that is not compressed
        # What zstd made Python cannot read: its pages are not looked at.
        pages = [content[i * PAGE:][:PAGE] for i in range(normal)] \
            if flags != ZSTD else [None] * normal
        packets.append((name, offsets[:normal], offsets[normal:], pages))
    return head, packets


PARSERS = {"main": parse_main, "return": parse_return,
           "packets": parse_packets}
