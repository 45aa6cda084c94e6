/* SPDX-License-Identifier: MIT */
/*
 * announce=1: the network's control queue, for one command.  When the device
 * asks the guest to announce itself (a bit of its status, looked at before each
 * echo), a frame is sent, and the device is told so; it takes the bit back then.
 */
#include "devices.h"

#include "console.h"

#define AT_STATUS	6u		/* in the configuration */
#define S_ANNOUNCE	2u
#define CONTROL_QUEUE	2u		/* of a device with one pair */

#define CLASS_ANNOUNCE	3u
#define COMMAND_ACK	0u
#define HEAD_BYTES	2u
#define ANSWER_AT	8u		/* behind the command */
#define ANSWER_OK	0u

void net_announce_setup(struct cpu *c)
{
	uint64_t at = pool_take(&c->guest->pool, PAGE_BYTES, UINT64_MAX);
	const char *wrong = at ? virtio_queue(&net.device, &net.control,
					      CONTROL_QUEUE, &c->guest->pool) :
				 "no memory for a command";

	if (wrong)
		console_fatal(c, "net", wrong);
	net.command = (volatile uint8_t *)at;
	net.command[0] = CLASS_ANNOUNCE;
	net.command[1] = COMMAND_ACK;
	net.control.desc[0] = (struct virtq_desc){ at, HEAD_BYTES, VIRTQ_NEXT,
						   1 };
	net.control.desc[1] = (struct virtq_desc){ at + ANSWER_AT, 1,
						   VIRTQ_WRITE, 0 };
}

static bool is_asked(void)
{
	const uint32_t word = virtio_config(&net.device, AT_STATUS & ~3u);

	return word >> 8 * (AT_STATUS & 3u) & S_ANNOUNCE;
}

bool net_announce_poll(void)
{
	uint32_t bytes;
	uint16_t head;

	if (net.telling && virtq_done(&net.control, &head, &bytes)) {
		net.telling = false;
		count_up(net.command[ANSWER_AT] == ANSWER_OK ? &net.announced :
							       &net.bad, 1);
	}
	if (net.telling || !is_asked())
		return false;
	net.telling = true;
	net.command[ANSWER_AT] = 0xff;
	virtq_make(&net.control, 0);
	virtq_show(&net.control);
	return true;
}
