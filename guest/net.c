/* SPDX-License-Identifier: MIT */
/*
 * A network that is watched.  net=echo sends an ICMP echo request every net_us,
 * numbered, and looks at what comes back; net=flood sends frames as fast as the
 * device takes them.  In both, what else comes (UDP with a serial number, of
 * `ferry-vhost-net --mode txonly`) is counted.
 *
 * A frame is made in place: header of virtio (12 octets, zeroes), Ethernet,
 * IPv4, ICMP, a number and what is made of it.
 */
#include "devices.h"

#include "console.h"

#define NET_SLOT_BYTES	2048u
#define HEADER_BYTES	12u
#define FRAME_BYTES	64u
#define BURST		32u

#define F_MAC		(1ull << 5)
#define F_STATUS	(1ull << 16)
#define F_CONTROL	(1ull << 17)
#define F_ANNOUNCE	(1ull << 21)

#define AT_ETH		HEADER_BYTES
#define AT_IP		(AT_ETH + 14)
#define AT_ICMP		(AT_IP + 20)
#define AT_NUMBER	(AT_ICMP + 8)
#define AT_MIXED	(AT_NUMBER + 8)
#define IP_BYTES	(FRAME_BYTES - 14)
#define ICMP_BYTES	(IP_BYTES - 20)

#define PROTOCOL_ICMP	1
#define PROTOCOL_UDP	17
#define ICMP_REPLY	0
#define ICMP_REQUEST	8

struct net net;

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put64(uint8_t *p, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)p[i] << 8 * i;
	return value;
}

static void set_sum(uint8_t *at, const uint8_t *data, unsigned bytes)
{
	uint32_t sum = 0;

	put16(at, 0);
	for (unsigned i = 0; i < bytes; i += 2)
		sum += (uint32_t)(data[i] << 8 | data[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(at, ~sum & 0xffff);
}

/* All but the number; from 198.18.0.2 to .1 (RFC 2544). */
static void lay_out(uint8_t *f)
{
	static const uint8_t station[6] = { 0x02, 0xfe, 0, 0, 0, 1 };
	static const uint8_t from[4] = { 198, 18, 0, 2 };
	static const uint8_t to[4] = { 198, 18, 0, 1 };
	uint8_t *ip = f + AT_IP;

	for (unsigned i = 0; i < HEADER_BYTES + FRAME_BYTES; i++)
		f[i] = 0;
	for (unsigned i = 0; i < 6; i++) {
		f[AT_ETH + i] = station[i];
		f[AT_ETH + 6 + i] = (uint8_t)(virtio_config(&net.device,
				i & 4u) >> 8 * (i % 4));
	}
	put16(f + AT_ETH + 12, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, IP_BYTES);
	ip[8] = 64;
	ip[9] = PROTOCOL_ICMP;
	for (unsigned i = 0; i < 4; i++) {
		ip[12 + i] = from[i];
		ip[16 + i] = to[i];
	}
	set_sum(ip + 10, ip, 20);
	f[AT_ICMP] = ICMP_REQUEST;
}

static void number(uint8_t *f, uint64_t n)
{
	put64(f + AT_NUMBER, n);
	put64(f + AT_MIXED, block_mix(n));
	set_sum(f + AT_ICMP + 2, f + AT_ICMP, ICMP_BYTES);
}

static uint8_t *frames(struct cpu *c)
{
	uint64_t at = pool_take(&c->guest->pool,
				VIRTQ_SIZE * NET_SLOT_BYTES, UINT64_MAX);

	if (!at)
		console_fatal(c, "net", "no memory for frames");
	return (uint8_t *)at;
}

static void fill_queues(void)
{
	for (uint16_t i = 0; i < net.rx.size; i++) {
		net.rx.desc[i] = (struct virtq_desc){
			(uint64_t)net.rx_frames + i * NET_SLOT_BYTES,
			NET_SLOT_BYTES, VIRTQ_WRITE, 0 };
		virtq_make(&net.rx, i);
	}
	for (uint16_t i = 0; i < net.tx.size; i++) {
		uint8_t *f = net.tx_frames + i * NET_SLOT_BYTES;

		lay_out(f);
		net.tx.desc[i] = (struct virtq_desc){
			(uint64_t)f, HEADER_BYTES + FRAME_BYTES, 0, 0 };
		net.free[net.frees++] = i;
	}
}

void net_setup(struct cpu *c)
{
	struct pool *pool = &c->guest->pool;
	const bool announces = c->guest->config.announce;
	const char *wrong;

	if (!virtio_find(&net.device, VIRTIO_NET, 0))
		console_fatal(c, "net", "there is no such device");
	wrong = virtio_begin(&net.device, F_MAC | (announces ? F_STATUS |
			     F_CONTROL | F_ANNOUNCE : 0));
	if (!wrong)
		wrong = virtio_queue(&net.device, &net.rx, 0, pool);
	if (!wrong)
		wrong = virtio_queue(&net.device, &net.tx, 1, pool);
	if (wrong)
		console_fatal(c, "net", wrong);
	if (announces)
		net_announce_setup(c);
	net.rx_frames = frames(c);
	net.tx_frames = frames(c);
	net.next = net.expect = 1;
	fill_queues();
	virtio_go(&net.device);
	virtq_show(&net.rx);
}

/* ---- to and fro --------------------------------------------------------- */

static void take_answer(struct cpu *c, const uint8_t *f)
{
	uint64_t n = get64(f + AT_NUMBER);

	if (get64(f + AT_MIXED) != block_mix(n) || n >= net.next) {
		count_up(&net.bad, 1);
		return;
	}
	if (n < net.expect) {
		count_up(&net.late, 1);
		return;
	}
	pace_note(c, &net.pace);
	count_up(&net.lost, n - net.expect);
	net.expect = n + 1;
	count_up(&net.got, 1);
}

/* Serial numbers begin anew with each backend. */
static void take_foreign(const uint8_t *f)
{
	uint64_t n = get64(f + AT_IP + 28);

	if (count_read(&net.foreign) && n != net.serial + 1)
		count_up(&net.jumps, 1);
	net.serial = n;
	count_up(&net.foreign, 1);
}

static void receive(struct cpu *c)
{
	uint32_t bytes;
	uint16_t slot;

	for (unsigned i = 0; i < BURST && virtq_done(&net.rx, &slot, &bytes);
	     i++) {
		const uint8_t *f = net.rx_frames + slot * NET_SLOT_BYTES;

		if (slot >= net.rx.size || bytes < HEADER_BYTES + 60)
			count_up(&net.bad, 1);
		else if (f[AT_IP + 9] == PROTOCOL_UDP)
			take_foreign(f);
		else if (f[AT_IP + 9] == PROTOCOL_ICMP &&
			 f[AT_ICMP] == ICMP_REPLY)
			take_answer(c, f);
		if (slot < net.rx.size)
			virtq_make(&net.rx, slot);
	}
	virtq_show(&net.rx);
}

static void reclaim(void)
{
	uint32_t bytes;
	uint16_t slot;

	while (virtq_done(&net.tx, &slot, &bytes)) {
		if (slot >= net.tx.size || net.frees == net.tx.size) {
			count_up(&net.bad, 1);
			continue;
		}
		net.free[net.frees++] = slot;
		count_up(&net.done, 1);
	}
}

/* False: the device has all of them. */
static bool transmit(void)
{
	uint16_t slot;

	if (!net.frees)
		return false;
	slot = net.free[--net.frees];
	number(net.tx_frames + slot * NET_SLOT_BYTES, net.next++);
	virtq_make(&net.tx, slot);
	count_up(&net.sent, 1);
	return true;
}

static void transmit_echo(struct cpu *c)
{
	if (c->clock.now < net.due)
		return;
	net.due = c->clock.now + clock_cycles(&c->clock,
					      c->guest->config.net_us);
	(void)transmit();
	if (c->guest->config.announce && net_announce_poll())
		(void)transmit();
}

void net_poll(struct cpu *c)
{
	reclaim();
	receive(c);
	if (c->guest->config.net == NET_ECHO)
		transmit_echo(c);
	else
		for (unsigned i = 0; i < BURST && transmit(); i++)
			;
	virtq_show(&net.tx);
}
