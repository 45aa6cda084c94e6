/* SPDX-License-Identifier: MIT */
/*
 * The few frames that ferry-vhost-net makes itself.  Pure, any thread.
 */
#include "net.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <string.h>

struct udp_frame {
	struct ether_header	eth;
	struct iphdr		ip;
	struct udphdr		udp;
	uint64_t		serial;
} __attribute__((packed));

struct icmp_frame {
	struct ether_header	eth;
	struct iphdr		ip;
	struct icmphdr		icmp;
} __attribute__((packed));

struct arp_frame {
	struct ether_header	eth;
	struct ether_arp	arp;
} __attribute__((packed));

/* RFC 1071. */
static uint16_t checksum(const void *data, size_t bytes)
{
	const uint8_t *p = data;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < bytes; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (bytes & 1)
		sum += (uint32_t)p[bytes - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static size_t answer_arp(uint8_t *frame, size_t bytes, const uint8_t mac[6])
{
	struct arp_frame *f = (struct arp_frame *)frame;
	uint8_t asked[4];

	if (bytes < sizeof(*f) || ntohs(f->arp.arp_op) != ARPOP_REQUEST)
		return 0;
	memcpy(asked, f->arp.arp_tpa, 4);
	memcpy(f->arp.arp_tha, f->arp.arp_sha, 6);
	memcpy(f->arp.arp_tpa, f->arp.arp_spa, 4);
	memcpy(f->arp.arp_sha, mac, 6);
	memcpy(f->arp.arp_spa, asked, 4);
	f->arp.arp_op = htons(ARPOP_REPLY);
	memcpy(f->eth.ether_dhost, f->eth.ether_shost, 6);
	memcpy(f->eth.ether_shost, mac, 6);
	return bytes;
}

/* RFC 1624: what a type of 8 added becomes 0.  A sum that was wrong stays so. */
static uint16_t without_type(uint16_t sum)
{
	uint32_t n = ntohs(sum) + (ICMP_ECHO << 8);

	return htons((uint16_t)(n + (n >> 16)));
}

static size_t answer_icmp(uint8_t *frame, size_t bytes, const uint8_t mac[6])
{
	struct icmp_frame *f = (struct icmp_frame *)frame;
	size_t ip_bytes;
	uint32_t from;

	if (bytes < sizeof(*f) || f->ip.version != 4 || f->ip.ihl != 5 ||
	    f->ip.protocol != IPPROTO_ICMP || f->icmp.type != ICMP_ECHO)
		return 0;
	ip_bytes = ntohs(f->ip.tot_len);
	if (ip_bytes < sizeof(f->ip) + sizeof(f->icmp) ||
	    ip_bytes > bytes - sizeof(f->eth))
		return 0;
	from = f->ip.saddr;
	f->ip.saddr = f->ip.daddr;
	f->ip.daddr = from;
	f->icmp.type = ICMP_ECHOREPLY;
	f->icmp.checksum = without_type(f->icmp.checksum);
	memcpy(f->eth.ether_dhost, f->eth.ether_shost, 6);
	memcpy(f->eth.ether_shost, mac, 6);
	return bytes;
}

size_t net_echo(uint8_t *frame, size_t bytes, const uint8_t mac[6])
{
	struct ether_header *eth = (struct ether_header *)frame;

	if (bytes < sizeof(*eth))
		return 0;
	if (ntohs(eth->ether_type) == ETHERTYPE_ARP)
		return answer_arp(frame, bytes, mac);
	if (ntohs(eth->ether_type) == ETHERTYPE_IP)
		return answer_icmp(frame, bytes, mac);
	return 0;
}

void net_number_udp(uint8_t *frame, uint64_t serial)
{
	((struct udp_frame *)frame)->serial = serial;
}

void net_make_udp(uint8_t *frame, size_t bytes, const uint8_t mac[6])
{
	struct udp_frame *f = (struct udp_frame *)frame;

	memset(frame, 0, bytes);
	memset(f->eth.ether_dhost, 0xff, 6);
	memcpy(f->eth.ether_shost, mac, 6);
	f->eth.ether_type = htons(ETHERTYPE_IP);
	f->ip.version = 4;
	f->ip.ihl = 5;
	f->ip.ttl = 64;
	f->ip.protocol = IPPROTO_UDP;
	f->ip.tot_len = htons((uint16_t)(bytes - sizeof(f->eth)));
	f->ip.saddr = htonl(0xc6120001);	/* 198.18.0.1, RFC 2544 */
	f->ip.daddr = htonl(0xc6120002);
	f->ip.check = checksum(&f->ip, sizeof(f->ip));
	f->udp.source = f->udp.dest = htons(9);
	f->udp.len = htons((uint16_t)(bytes - sizeof(f->eth) -
				      sizeof(f->ip)));
}

size_t net_make_rarp(uint8_t *frame, const uint8_t mac[6])
{
	struct arp_frame *f = (struct arp_frame *)frame;

	memset(frame, 0, 60);
	memset(f->eth.ether_dhost, 0xff, 6);
	memcpy(f->eth.ether_shost, mac, 6);
	f->eth.ether_type = htons(ETHERTYPE_REVARP);
	f->arp.arp_hrd = htons(ARPHRD_ETHER);
	f->arp.arp_pro = htons(ETHERTYPE_IP);
	f->arp.arp_hln = 6;
	f->arp.arp_pln = 4;
	f->arp.arp_op = htons(ARPOP_RREQUEST);
	memcpy(f->arp.arp_sha, mac, 6);
	memcpy(f->arp.arp_tha, mac, 6);
	return 60;
}
