/* SPDX-License-Identifier: MIT */
/*
 * The machine put together from its parts.  See machine.h.
 *
 * Locks: `lock` makes control's calls one at a time; it is held while waiting
 * for vCPUs to stop and never taken by a vCPU's thread.
 */
#include "vmm/machine.h"

#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "vmm/boot.h"
#include "vmm/console.h"
#include "vmm/cpuid.h"
#include "vmm/gate.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/platform.h"
#include "vmm/ports.h"
#include "vmm/ram.h"
#include "vmm/section.h"
#include "vmm/state.h"
#include "vmm/throttle.h"
#include "vmm/uart.h"
#include "vmm/vcpu.h"
#include "vmm/virtio_bus.h"

#define PIECES_MAX (FERRY_VMM_VCPUS_MAX * FERRY_VCPU_SECTIONS_MAX + 5 + \
		    FERRY_VIRTIO_DEVICES_MAX)

struct ferry_machine {
	pthread_mutex_t			 lock;
	struct ferry_machine_config	 config;	/* its strings are ours */
	struct ferry_kvm		 kvm;
	struct ferry_ram		 ram;
	struct ferry_boot		 boot;
	struct kvm_cpuid2		*cpuid;
	struct ferry_msrs		 msrs;
	struct ferry_gate		 gate;
	struct ferry_throttle		 throttle;
	struct ferry_ports		 ports;
	struct ferry_platform		 platform;
	struct ferry_uart		 uart;
	struct ferry_console		*console;
	struct ferry_virtio_bus		 virtio;
	int				 stopped_badly;	/* a device; why: */
	struct ferry_err		 why;
	unsigned			 vcpus;		/* made so far */
	struct ferry_vcpu		 vcpu[FERRY_VMM_VCPUS_MAX];
	struct ferry_vcpu_state		 vcpu_state[FERRY_VMM_VCPUS_MAX];
	size_t				 pieces;
	struct ferry_piece		 piece[PIECES_MAX];
};

/* ---- callbacks of the parts ------------------------------------------- */

static void on_act(void *opaque, enum ferry_act act, const char *text)
{
	const struct ferry_machine_config *c =
		&((struct ferry_machine *)opaque)->config;

	switch (act) {
	case FERRY_ACT_GO_ON:
		return;
	case FERRY_ACT_SHUTDOWN:
		c->on_shutdown(c->opaque);
		return;
	case FERRY_ACT_RESET:
		c->on_reset(c->opaque);
		return;
	case FERRY_ACT_PANIC:
		c->on_panic(c->opaque, text);
		return;
	}
}

static void serial_send(void *opaque, uint8_t octet)
{
	ferry_console_send(((struct ferry_machine *)opaque)->console, octet);
}

static bool serial_can_send(void *opaque)
{
	return ferry_console_can_send(
		((struct ferry_machine *)opaque)->console);
}

static void serial_drained(void *opaque)
{
	ferry_console_wake(((struct ferry_machine *)opaque)->console);
}

static void serial_irq(void *opaque, bool level)
{
	ferry_kvm_set_irq(&((struct ferry_machine *)opaque)->kvm,
			  FERRY_GSI_SERIAL, level);
}

/* The registers are an octet wide each; wider accesses reach the first. */
static uint32_t serial_in(void *opaque, unsigned offset, unsigned size)
{
	struct ferry_machine *m = opaque;

	(void)size;
	return ~0xffu | ferry_uart_read(&m->uart, offset);
}

static enum ferry_act serial_out(void *opaque, unsigned offset, unsigned size,
				 uint32_t value)
{
	struct ferry_machine *m = opaque;

	(void)size;
	ferry_uart_write(&m->uart, offset, (uint8_t)value);
	return FERRY_ACT_GO_ON;
}

/* ---- making it: stages, each ends whole or fails; free() undoes any ---- */

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

int ferry_machine_check(const struct ferry_machine_config *c,
			struct ferry_err *e)
{
	struct kvm_cpuid2 none = { 0 };

	if (c->vcpus == 0 || c->vcpus > FERRY_VMM_VCPUS_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%u vCPUs: 1 to %u are possible",
				     c->vcpus, FERRY_VMM_VCPUS_MAX);
	if (ferry_ram_check(c->ram_bytes, e) ||
	    (c->cpu_mask && ferry_cpuid_mask(&none, c->cpu_mask, e)))
		return -1;
	return c->serial ? ferry_console_check(c->serial, e) : 0;
}

static int stage_config(struct ferry_machine *m, struct ferry_err *e)
{
	struct ferry_machine_config *c = &m->config;

	c->name = copy(c->name);
	c->ram_path = copy(c->ram_path);
	c->kernel = copy(c->kernel);
	c->initrd = copy(c->initrd);
	c->cmdline = copy(c->cmdline);
	c->serial = copy(c->serial);
	c->cpu_mask = copy(c->cpu_mask);
	return ferry_machine_check(c, e);
}

static int stage_memory(struct ferry_machine *m, struct ferry_err *e)
{
	if (ferry_ram_init(&m->ram, m->config.ram_bytes, m->config.ram_kind,
			   m->config.ram_path, e))
		return -1;
	return ferry_kvm_open(&m->kvm, e) ||
	       ferry_kvm_map_ram(&m->kvm, &m->ram, e) ? -1 : 0;
}

static int stage_vcpus(struct ferry_machine *m, struct ferry_err *e)
{
	unsigned n = m->config.vcpus;

	m->cpuid = ferry_cpuid_new(&m->kvm, n, m->config.cpu_mask, e);
	if (!m->cpuid)
		return -1;
	for (; m->vcpus < n; m->vcpus++) {
		unsigned i = m->vcpus;

		if (ferry_vcpu_init(&m->vcpu[i], &m->kvm, i, n, m->cpuid, e))
			return -1;
		m->vcpu_state[i] = (struct ferry_vcpu_state){
			m->vcpu[i].fd, &m->kvm, &m->msrs };
	}
	return ferry_msrs_init(&m->msrs, &m->kvm, m->vcpu[0].fd, e);
}

static int stage_devices(struct ferry_machine *m, struct ferry_err *e)
{
	const struct ferry_uart_host host = {
		.send = serial_send,
		.can_send = serial_can_send,
		.input_drained = serial_drained,
		.set_irq = serial_irq,
		.opaque = m,
	};
	const struct ferry_port_range serial = {
		FERRY_PORT_SERIAL, FERRY_PORT_SERIAL + FERRY_UART_PORTS - 1,
		m, serial_in, serial_out,
	};

	m->console = ferry_console_open(m->config.serial, e);
	if (!m->console)
		return -1;
	m->uart.host = host;
	ferry_ports_add(&m->ports, &serial);
	ferry_platform_add_ports(&m->platform, &m->ports);
	m->virtio.kvm = &m->kvm;
	for (unsigned i = 0; i < m->config.n_virtio; i++)
		if (ferry_virtio_bus_add(&m->virtio, m->config.virtio[i], e))
			return -1;
	return 0;
}

static void add_piece(struct ferry_machine *m,
		      const struct ferry_section *section, void *object,
		      unsigned instance)
{
	m->piece[m->pieces++] = (struct ferry_piece){
		.section = section, .object = object, .instance = instance };
}

/* In loading order: vCPUs, chips, what drives their lines, the clock.  The
 * devices, which nobody had before, come last. */
static int stage_pieces(struct ferry_machine *m, struct ferry_err *e)
{
	for (unsigned i = 0; i < m->vcpus; i++)
		for (const struct ferry_section *const *s = ferry_vcpu_sections;
		     *s; s++)
			add_piece(m, *s, &m->vcpu_state[i], i);
	add_piece(m, &ferry_section_irqchip, &m->kvm, 0);
	add_piece(m, &ferry_section_pit, &m->kvm, 0);
	add_piece(m, &ferry_section_serial, &m->uart, 0);
	add_piece(m, &ferry_section_platform, &m->platform, 0);
	add_piece(m, &ferry_section_kvmclock, &m->kvm, 0);
	for (unsigned i = 0; i < m->virtio.count; i++)
		add_piece(m, &ferry_section_virtio, &m->virtio.slot[i], i);

	for (size_t i = 0; i < m->pieces; i++)
		if (ferry_piece_snapshot(&m->piece[i], e))
			return -1;
	return 0;
}

static int load_kernel(struct ferry_machine *m, struct ferry_err *e)
{
	struct ferry_entry entry;

	if (ferry_boot_load(&m->boot, &m->ram, &entry, e))
		return -1;
	return ferry_vcpu_set_entry(&m->vcpu[0], &entry, e);
}

static int stage_kernel(struct ferry_machine *m, struct ferry_err *e)
{
	const struct ferry_machine_config *c = &m->config;

	if (!c->kernel)
		return 0;
	if (ferry_boot_open(&m->boot, c->kernel, c->initrd, c->cmdline,
			    c->vcpus, c->n_virtio, e))
		return -1;
	return c->arrives ? ferry_boot_check(&m->boot, e) : load_kernel(m, e);
}

static int stage_threads(struct ferry_machine *m, struct ferry_err *e)
{
	const struct ferry_vcpu_hooks hooks = { on_act, m };

	if (ferry_console_start(m->console, &m->uart, e) ||
	    ferry_throttle_start(&m->throttle, &m->gate, e))
		return -1;
	for (unsigned i = 0; i < m->vcpus; i++)
		if (ferry_vcpu_start(&m->vcpu[i], &m->gate, &m->ports,
				     &m->virtio, &hooks, e))
			return -1;
	return 0;
}

static int (*const stages[])(struct ferry_machine *m, struct ferry_err *e) = {
	stage_config, stage_memory, stage_vcpus, stage_devices, stage_pieces,
	stage_kernel, stage_threads,
};

struct ferry_machine *
ferry_machine_new(const struct ferry_machine_config *config,
		  struct ferry_err *e)
{
	static const struct ferry_uart_host unwired = { 0 };
	struct ferry_machine *m = calloc(1, sizeof(*m));

	if (!m) {
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "machine");
		return NULL;
	}
	m->config = *config;
	m->kvm = (struct ferry_kvm)FERRY_KVM_NONE;
	m->ram = (struct ferry_ram)FERRY_RAM_NONE;
	m->boot.kernel.fd = m->boot.initrd.fd = -1;
	pthread_mutex_init(&m->lock, NULL);
	ferry_platform_init(&m->platform);
	ferry_uart_init(&m->uart, &unwired);
	ferry_gate_init(&m->gate);
	for (size_t i = 0; i < FERRY_LEN(stages); i++) {
		if (stages[i](m, e)) {
			ferry_machine_free(m);
			return NULL;
		}
	}
	return m;
}

static void free_config(struct ferry_machine_config *c)
{
	free((char *)c->name);
	free((char *)c->ram_path);
	free((char *)c->kernel);
	free((char *)c->initrd);
	free((char *)c->cmdline);
	free((char *)c->serial);
	free((char *)c->cpu_mask);
}

void ferry_machine_free(struct ferry_machine *m)
{
	if (!m)
		return;
	ferry_throttle_stop(&m->throttle);
	ferry_gate_quit(&m->gate);
	for (unsigned i = 0; i < m->vcpus; i++)
		ferry_thread_join(&m->vcpu[i].thread);
	ferry_console_close(m->console);	/* its thread uses the UART */
	ferry_virtio_bus_pause(&m->virtio, NULL);
	for (size_t i = 0; i < m->pieces; i++)
		ferry_piece_fini(&m->piece[i]);
	for (unsigned i = 0; i < m->vcpus; i++)
		ferry_vcpu_fini(&m->vcpu[i]);
	ferry_msrs_fini(&m->msrs);
	free(m->cpuid);
	ferry_boot_close(&m->boot);
	ferry_virtio_bus_fini(&m->virtio);
	ferry_kvm_close(&m->kvm);
	ferry_ram_fini(&m->ram);
	ferry_gate_fini(&m->gate);
	ferry_uart_fini(&m->uart);
	ferry_platform_fini(&m->platform);
	pthread_mutex_destroy(&m->lock);
	free_config(&m->config);
	free(m);
}

/* ---- the machine as the engine sees it -------------------------------- */

static int describe_memory(struct ferry_machine *m, struct ferry_vm *vm,
			   struct ferry_err *e)
{
	struct ferry_kvm_slot slots[FERRY_RAM_SLOTS_MAX];
	size_t n = ferry_ram_slots(&m->ram, slots);
	struct ferry_block block = FERRY_BLOCK_INIT;

	block.name = "pc.ram";
	block.page_bytes = m->ram.page_bytes;
	block.addr = m->ram.base;
	block.bytes = m->ram.bytes;
	block.fd = m->ram.fd;
	if (ferry_vm_add_block(vm, &block, e))
		return -1;
	return ferry_vm_track_kvm(vm, m->kvm.vm_fd, slots, n, e);
}

static int describe_facts(struct ferry_machine *m, struct ferry_vm *vm,
			  struct ferry_err *e)
{
	char features[FERRY_FACT_BYTES_MAX];
	char vcpus[16], vendor[13];

	snprintf(vcpus, sizeof(vcpus), "%u", m->config.vcpus);
	ferry_cpuid_vendor(m->cpuid, vendor);
	if (ferry_cpuid_features(m->cpuid, features, sizeof(features), e) ||
	    ferry_vm_add_fact(vm, "vcpus", FERRY_FACT_EQUAL, vcpus, e) ||
	    ferry_vm_add_fact(vm, "cpu-vendor", FERRY_FACT_EQUAL, vendor, e))
		return -1;
	return ferry_vm_add_fact(vm, "cpu-features", FERRY_FACT_SUBSET,
				 features, e);
}

int ferry_machine_describe(struct ferry_machine *m, struct ferry_vm *vm,
			   struct ferry_err *e)
{
	if (describe_memory(m, vm, e) || describe_facts(m, vm, e))
		return -1;
	for (size_t i = 0; i < m->pieces; i++)
		if (ferry_piece_register(&m->piece[i], vm, e))
			return -1;
	return 0;
}

struct ferry_virtio *ferry_machine_virtio(struct ferry_machine *m, unsigned i)
{
	return &m->virtio.slot[i];
}

const struct ferry_ram *ferry_machine_ram(const struct ferry_machine *m)
{
	return &m->ram;
}

void ferry_machine_set_vm(struct ferry_machine *m, struct ferry_vm *vm)
{
	pthread_mutex_lock(&m->lock);
	m->ram.vm = vm;
	pthread_mutex_unlock(&m->lock);
}

/* ---- running it -------------------------------------------------------- */

/* So that a guest's watchdog takes the pause for one.  Refused by KVM when the
 * guest has no kvmclock: nothing to tell then. */
static void tell_of_pause(struct ferry_machine *m)
{
	for (unsigned i = 0; i < m->vcpus; i++)
		(void)ioctl(m->vcpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
}

int ferry_machine_run(struct ferry_machine *m, struct ferry_err *e)
{
	(void)e;
	pthread_mutex_lock(&m->lock);
	if (!ferry_gate_is_open(&m->gate)) {
		tell_of_pause(m);
		ferry_uart_set_still(&m->uart, false);
		ferry_console_wake(m->console);
		ferry_virtio_bus_run(&m->virtio);
		ferry_gate_open(&m->gate);
	}
	pthread_mutex_unlock(&m->lock);
	return 0;
}

bool ferry_machine_pause_until(struct ferry_machine *m, uint64_t until_ns)
{
	bool paused, was;

	pthread_mutex_lock(&m->lock);
	was = ferry_gate_is_open(&m->gate);
	paused = ferry_gate_close_until(&m->gate, until_ns);
	if (paused && was) {
		m->stopped_badly = ferry_virtio_bus_pause(&m->virtio, &m->why);
		ferry_uart_set_still(&m->uart, true);
	}
	pthread_mutex_unlock(&m->lock);
	return paused;
}

void ferry_machine_pause(struct ferry_machine *m)
{
	(void)ferry_machine_pause_until(m, UINT64_MAX);
}

int ferry_machine_check_paused(struct ferry_machine *m, struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = m->stopped_badly;
	if (rc && e)
		*e = m->why;
	pthread_mutex_unlock(&m->lock);
	return rc;
}

void ferry_machine_run_until(struct ferry_machine *m, uint64_t boot_ns)
{
	ferry_gate_limit(&m->gate, boot_ns);
	ferry_console_limit(m->console, boot_ns);
	ferry_platform_limit(&m->platform, boot_ns);
}

bool ferry_machine_is_limited(struct ferry_machine *m)
{
	return ferry_gate_is_limited(&m->gate);
}

bool ferry_machine_running(struct ferry_machine *m)
{
	return ferry_gate_is_open(&m->gate);
}

void ferry_machine_throttle(struct ferry_machine *m, unsigned percent)
{
	ferry_throttle_set(&m->throttle, percent);
}

static int reset_locked(struct ferry_machine *m, struct ferry_err *e)
{
	if (ferry_gate_is_open(&m->gate))
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "reset: the VM is running");
	if (!m->config.kernel)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "reset: this VM came by migration, and "
				     "there is no kernel here to start it "
				     "from: give --kernel together with "
				     "--incoming");
	for (size_t i = 0; i < m->pieces; i++)
		if (ferry_piece_restore(&m->piece[i], e))
			return ferry_err_wrap(e, "reset");
	return load_kernel(m, e) ? ferry_err_wrap(e, "reset") : 0;
}

int ferry_machine_reset(struct ferry_machine *m, struct ferry_err *e)
{
	int err;

	pthread_mutex_lock(&m->lock);
	err = reset_locked(m, e);
	pthread_mutex_unlock(&m->lock);
	return err;
}

void ferry_machine_heartbeat(struct ferry_machine *m,
			     struct ferry_heartbeat *out)
{
	ferry_platform_heartbeat(&m->platform, out);
}
