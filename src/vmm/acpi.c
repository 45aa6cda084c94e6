/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables, built into one buffer and written below 1 MiB, where also a
 * guest finds them that was not told the address.
 *
 * Ordinary, not "hardware-reduced" ACPI: the guest keeps PIC and PIT, which
 * KVM emulates and an older kernel wants.  Limits: nothing in the DSDT but the
 * S5 package and virtio devices; the serial port and the clock are at their ISA
 * places, and what is missing (8042, VGA, PM timer) the FADT says.
 */
#include "vmm/acpi.h"

#include <assert.h>
#include <string.h>

#include "base/cursor.h"
#include "vmm/layout.h"
#include "vmm/machine.h"
#include "vmm/virtio_bus.h"

#define TABLES_MAX	(FERRY_GPA_KERNEL - FERRY_GPA_ACPI)
#define BUFFER_BYTES	4096u

#define OFFSET_RSDP	0u
#define OFFSET_FACS	64u	/* aligned to 64 */
#define OFFSET_FIRST	128u

#define MADT_LAPIC	0u
#define MADT_IOAPIC	1u
#define MADT_OVERRIDE	2u
#define MADT_LAPIC_NMI	4u
#define ACTIVE_HIGH_LEVEL	0x0du
#define PCAT_COMPAT	1u	/* there are two 8259s */

#define VIRTIO_AML_BYTES	61

#define FADT_BYTES	244u	/* revision 4 */
/* WBINVD, C1, no fixed buttons, RTC cannot wake, reset register */
#define FADT_FLAGS	(1u << 0 | 1u << 2 | 1u << 4 | 1u << 5 | 1u << 6 | \
			 1u << 10)
/* ISA devices; no 8042, no VGA, no MSI */
#define FADT_BOOT_ARCH	(1u << 0 | 1u << 2 | 1u << 3)
#define RESET_PORT	0xcf9u
#define RESET_VALUE	0x06u

/* Name (_S5, Package () { 0, 0, 0, 0 }): SLP_TYP 0 is what platform.c takes
 * for power-off. */
static const uint8_t dsdt_aml[] = {
	0x08, '_', 'S', '5', '_', 0x12, 0x06, 0x04, 0x00, 0x00, 0x00, 0x00,
};

/* ACPI is little-endian; the cursor is not. */
static void le(struct ferry_wr *w, uint64_t v, size_t n)
{
	uint8_t *at = ferry_wr_room(w, n);

	for (size_t i = 0; at && i < n; i++, v >>= 8)
		at[i] = (uint8_t)v;
}

static void set_checksum(uint8_t *table, size_t bytes, size_t at)
{
	uint8_t sum = 0;

	table[at] = 0;
	for (size_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + table[i]);
	table[at] = (uint8_t)-sum;
}

/* A table begins; length and checksum come with end_table(). */
static uint8_t *begin_table(struct ferry_wr *w, const char *signature,
			    uint8_t revision)
{
	uint8_t *start;

	while (ferry_wr_used(w) % 16)
		ferry_wr_u8(w, 0);
	start = w->p;
	ferry_wr_bytes(w, signature, 4);
	le(w, 0, 4);
	ferry_wr_u8(w, revision);
	ferry_wr_u8(w, 0);
	ferry_wr_bytes(w, "FERRY ", 6);
	ferry_wr_bytes(w, "FERRYPC ", 8);
	le(w, 1, 4);
	ferry_wr_bytes(w, "FRRY", 4);
	le(w, 1, 4);
	return start;
}

/* Returns the table's guest physical address. */
static uint64_t end_table(struct ferry_wr *w, uint8_t *start)
{
	struct ferry_wr length = ferry_wr_over(start + 4, 4);
	size_t bytes = (size_t)(w->p - start);

	le(&length, bytes, 4);
	set_checksum(start, bytes, 9);
	return FERRY_GPA_ACPI + (uint64_t)(start - w->start);
}

/*
 *	Device (VRnn) {
 *		Name (_HID, "LNRO0005")
 *		Name (_UID, nn)
 *		Name (_CRS, ResourceTemplate () {
 *			Memory32Fixed (ReadWrite, gpa, 0x1000)
 *			Interrupt (ResourceConsumer, Edge, ActiveHigh,
 *				   Exclusive) { gsi } })
 *	}
 */
static void put_virtio(struct ferry_wr *w, unsigned slot)
{
	static const uint8_t crs[] = {
		0x08, '_', 'C', 'R', 'S', 0x11, 0x1a, 0x0a, 0x17,
		0x86, 0x09, 0x00, 0x01,
	};
	static const uint8_t line[] = { 0x89, 0x06, 0x00, 0x03, 0x01 };
	uint8_t *start = w->p;

	ferry_wr_bytes(w, "\x5b\x82\x3bVR", 5);
	ferry_wr_u8(w, (uint8_t)('0' + slot / 10));
	ferry_wr_u8(w, (uint8_t)('0' + slot % 10));
	ferry_wr_bytes(w, "\x08_HID\x0dLNRO0005", 15);
	ferry_wr_bytes(w, "\x08_UID\x0a", 6);
	ferry_wr_u8(w, (uint8_t)slot);
	ferry_wr_bytes(w, crs, sizeof(crs));
	le(w, ferry_virtio_bus_gpa(slot), 4);
	le(w, FERRY_VIRTIO_MMIO_BYTES, 4);
	ferry_wr_bytes(w, line, sizeof(line));
	le(w, ferry_virtio_bus_gsi(slot), 4);
	le(w, 0x0079, 2);		/* end, checksum unused */
	assert(w->bad || w->p - start == VIRTIO_AML_BYTES);
}

/* Scope (\_SB) { ... } */
static void put_devices(struct ferry_wr *w, unsigned n)
{
	const unsigned bytes = 2 + 5 + n * VIRTIO_AML_BYTES;

	if (!n)
		return;
	ferry_wr_u8(w, 0x10);
	ferry_wr_u8(w, (uint8_t)(0x40 | (bytes & 0xf)));
	ferry_wr_u8(w, (uint8_t)(bytes >> 4));
	ferry_wr_bytes(w, "\\_SB_", 5);
	for (unsigned i = 0; i < n; i++)
		put_virtio(w, i);
}

static uint64_t put_dsdt(struct ferry_wr *w, unsigned virtio)
{
	uint8_t *t = begin_table(w, "DSDT", 2);

	ferry_wr_bytes(w, dsdt_aml, sizeof(dsdt_aml));
	put_devices(w, virtio);
	return end_table(w, t);
}

/* An address of a register in I/O space. */
static void gas(struct ferry_wr *w, unsigned port, unsigned bytes)
{
	ferry_wr_u8(w, bytes ? 1 : 0);		/* system I/O */
	ferry_wr_u8(w, (uint8_t)(bytes * 8));
	ferry_wr_u8(w, 0);
	ferry_wr_u8(w, (uint8_t)(bytes > 2 ? 3 : bytes));
	le(w, port, 8);
}

static uint64_t put_fadt(struct ferry_wr *w, uint64_t dsdt)
{
	uint8_t *t = begin_table(w, "FACP", 4);

	le(w, FERRY_GPA_ACPI + OFFSET_FACS, 4);
	le(w, dsdt, 4);
	le(w, 0, 2);			/* reserved, profile */
	le(w, FERRY_GSI_SCI, 2);
	le(w, 0, 4);			/* no SMI port: always ACPI mode */
	le(w, 0, 4);
	le(w, FERRY_PORT_PM, 4);	/* PM1a event */
	le(w, 0, 4);
	le(w, FERRY_PORT_PM + 4, 4);	/* PM1a control */
	le(w, 0, 4);
	le(w, 0, 4);			/* PM2 */
	le(w, 0, 4);			/* PM timer */
	le(w, 0, 8);			/* GPE0, GPE1 */
	le(w, 4, 1);			/* lengths: PM1 event, control, */
	le(w, 2, 1);
	le(w, 0, 6);			/* the rest, GPE1 base, CST */
	le(w, 0xffff, 2);		/* no C2 */
	le(w, 0xffff, 2);		/* no C3 */
	le(w, 0, 4);			/* cache flush size and stride */
	le(w, 0, 4);			/* duty, alarms */
	le(w, 0x32, 1);			/* century in CMOS */
	le(w, FADT_BOOT_ARCH, 2);
	le(w, 0, 1);
	le(w, FADT_FLAGS, 4);
	gas(w, RESET_PORT, 1);
	le(w, RESET_VALUE, 1);
	le(w, 0, 3);			/* ARM flags, minor version */
	le(w, 0, 8);			/* FACS: see above */
	le(w, dsdt, 8);
	gas(w, FERRY_PORT_PM, 4);
	gas(w, 0, 0);
	gas(w, FERRY_PORT_PM + 4, 2);
	gas(w, 0, 0);
	gas(w, 0, 0);			/* PM2, timer, GPE0, GPE1 */
	gas(w, 0, 0);
	gas(w, 0, 0);
	gas(w, 0, 0);
	return end_table(w, t);
}

static void madt_override(struct ferry_wr *w, unsigned irq, unsigned gsi,
			  unsigned flags)
{
	le(w, MADT_OVERRIDE, 1);
	le(w, 10, 1);
	le(w, 0, 1);			/* ISA */
	le(w, irq, 1);
	le(w, gsi, 4);
	le(w, flags, 2);
}

static uint64_t put_madt(struct ferry_wr *w, unsigned vcpus)
{
	uint8_t *t = begin_table(w, "APIC", 3);

	le(w, FERRY_GPA_LAPIC, 4);
	le(w, PCAT_COMPAT, 4);
	for (unsigned i = 0; i < vcpus; i++) {
		le(w, MADT_LAPIC, 1);
		le(w, 8, 1);
		le(w, i, 1);		/* processor and APIC id */
		le(w, i, 1);
		le(w, 1, 4);		/* enabled */
	}
	le(w, MADT_IOAPIC, 1);
	le(w, 12, 1);
	le(w, 0, 2);			/* id, reserved */
	le(w, FERRY_GPA_IOAPIC, 4);
	le(w, 0, 4);			/* first GSI */
	madt_override(w, 0, 2, 0);	/* the PIT, see kvm.c */
	madt_override(w, FERRY_GSI_SCI, FERRY_GSI_SCI, ACTIVE_HIGH_LEVEL);
	le(w, MADT_LAPIC_NMI, 1);
	le(w, 6, 1);
	le(w, 0xff, 1);			/* every processor's */
	le(w, 0, 2);
	le(w, 1, 1);			/* LINT1 */
	return end_table(w, t);
}

static uint64_t put_xsdt(struct ferry_wr *w, uint64_t fadt, uint64_t madt)
{
	uint8_t *t = begin_table(w, "XSDT", 1);

	le(w, fadt, 8);
	le(w, madt, 8);
	return end_table(w, t);
}

static void put_rsdp(uint8_t *at, uint64_t xsdt)
{
	struct ferry_wr w = ferry_wr_over(at, 36);

	ferry_wr_bytes(&w, "RSD PTR ", 8);
	le(&w, 0, 1);
	ferry_wr_bytes(&w, "FERRY ", 6);
	le(&w, 2, 1);
	le(&w, 0, 4);			/* no RSDT */
	le(&w, 36, 4);
	le(&w, xsdt, 8);
	set_checksum(at, 20, 8);
	set_checksum(at, 36, 32);
}

static void put_facs(uint8_t *at)
{
	struct ferry_wr w = ferry_wr_over(at, 64);

	ferry_wr_bytes(&w, "FACS", 4);
	le(&w, 64, 4);
	ferry_wr_zeroes(&w, 24);
	le(&w, 2, 1);			/* version */
}

int ferry_acpi_write(struct ferry_ram *ram, unsigned vcpus, unsigned virtio,
		     struct ferry_err *e)
{
	uint8_t buf[BUFFER_BYTES] = { 0 };
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	uint64_t dsdt, fadt, madt;

	_Static_assert(BUFFER_BYTES <= TABLES_MAX, "room below 1 MiB");
	_Static_assert(OFFSET_FIRST + 36 + 6 * 36 + 8 * FERRY_VMM_VCPUS_MAX +
		       VIRTIO_AML_BYTES * FERRY_VIRTIO_DEVICES_MAX +
		       FADT_BYTES + 256 <= BUFFER_BYTES, "room in buffer");
	ferry_wr_zeroes(&w, OFFSET_FIRST);
	dsdt = put_dsdt(&w, virtio);
	fadt = put_fadt(&w, dsdt);
	madt = put_madt(&w, vcpus);
	put_rsdp(buf + OFFSET_RSDP, put_xsdt(&w, fadt, madt));
	put_facs(buf + OFFSET_FACS);
	return ferry_ram_write(ram, FERRY_GPA_ACPI, buf, sizeof(buf),
			       "ACPI tables", e);
}
