/* SPDX-License-Identifier: MIT */
/*
 * Opening KVM and making an empty PC of it: PICs, IOAPIC, PIT.  See kvm.h.
 */
#include "vmm/kvm.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/layout.h"
#include "vmm/ram.h"

#define IOAPIC_PINS	24u

static const struct {
	int		 cap;
	const char	*name;
} required[] = {
	{ KVM_CAP_IRQCHIP,		"an in-kernel interrupt controller" },
	{ KVM_CAP_IRQ_ROUTING,		"interrupt routing" },
	{ KVM_CAP_USER_MEMORY,		"memory slots" },
	{ KVM_CAP_SET_TSS_ADDR,		"KVM_SET_TSS_ADDR" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR" },
	{ KVM_CAP_EXT_CPUID,		"KVM_SET_CPUID2" },
	{ KVM_CAP_IMMEDIATE_EXIT,	"immediate exit (Linux 4.11)" },
	{ KVM_CAP_MP_STATE,		"KVM_GET_MP_STATE" },
	{ KVM_CAP_VCPU_EVENTS,		"KVM_GET_VCPU_EVENTS" },
	{ KVM_CAP_DEBUGREGS,		"KVM_GET_DEBUGREGS" },
	{ KVM_CAP_XSAVE,		"KVM_GET_XSAVE" },
	{ KVM_CAP_XCRS,			"KVM_GET_XCRS" },
	{ KVM_CAP_PIT2,			"an in-kernel timer" },
	{ KVM_CAP_PIT_STATE2,		"KVM_GET_PIT2" },
	{ KVM_CAP_ADJUST_CLOCK,		"KVM_GET_CLOCK" },
	{ KVM_CAP_GET_TSC_KHZ,		"KVM_GET_TSC_KHZ" },
	{ KVM_CAP_IOEVENTFD,		"KVM_IOEVENTFD" },
	{ KVM_CAP_IRQFD,		"KVM_IRQFD" },
};

static int open_device(struct ferry_err *e)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == EACCES || errno == EPERM)
		return ferry_err_set(e, FERRY_E_PERM, 0,
				     "/dev/kvm: permission denied; as root: "
				     "setfacl -m u:%u:rw /dev/kvm (or add the "
				     "user to the group of /dev/kvm)",
				     geteuid());
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "/dev/kvm is missing; switch on "
				     "virtualisation in the firmware and run "
				     "`sudo modprobe kvm-intel` or `kvm-amd`");
	return ferry_err_set(e, FERRY_E_IO, errno, "open /dev/kvm");
}

static int check_host(struct ferry_kvm *kvm, struct ferry_err *e)
{
	int version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);
	int run_bytes = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (version != KVM_API_VERSION || run_bytes <= 0)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "/dev/kvm speaks version %d, not %d",
				     version, KVM_API_VERSION);
	for (size_t i = 0; i < FERRY_LEN(required); i++)
		if (ioctl(kvm->fd, KVM_CHECK_EXTENSION, required[i].cap) <= 0)
			return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
					     "KVM on this host lacks %s",
					     required[i].name);
	kvm->run_bytes = (uint32_t)run_bytes;
	return 0;
}

/* As on a PC: lines 0 to 15 go to the PICs and the IOAPIC, 16 to 23 to the
 * IOAPIC alone; the PIT's line 0 is at the IOAPIC's pin 2, as the MADT says. */
static int wire_interrupts(const struct ferry_kvm *kvm, struct ferry_err *e)
{
	FERRY_AUTO_FREE struct kvm_irq_routing *table = NULL;
	struct kvm_irq_routing_entry *row;

	table = calloc(1, sizeof(*table) + (IOAPIC_PINS + 16) * sizeof(*row));
	if (!table)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
				     "interrupt routing");
	row = table->entries;
	for (uint32_t gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		if (gsi < 16 && gsi != 2) {
			row->gsi = gsi;
			row->type = KVM_IRQ_ROUTING_IRQCHIP;
			row->u.irqchip.irqchip = gsi < 8 ?
				KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
			row++->u.irqchip.pin = gsi % 8;
		}
		if (gsi == 2)
			continue;
		row->gsi = gsi;
		row->type = KVM_IRQ_ROUTING_IRQCHIP;
		row->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		row++->u.irqchip.pin = gsi == 0 ? 2 : gsi;
	}
	table->nr = (uint32_t)(row - table->entries);
	if (ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, table))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "KVM_SET_GSI_ROUTING");
	return 0;
}

static int make_vm(struct ferry_kvm *kvm, struct ferry_err *e)
{
	uint64_t identity = FERRY_GPA_KVM_IDENTITY;
	/* the dummy speaker is port 0x61, which a guest calibrates by */
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	do
		kvm->vm_fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
	while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "KVM_CREATE_VM");
	if (ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "KVM_SET_IDENTITY_MAP_ADDR");
	if (ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, FERRY_GPA_KVM_TSS))
		return ferry_err_set(e, FERRY_E_IO, errno, "KVM_SET_TSS_ADDR");
	if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "KVM_CREATE_IRQCHIP");
	if (ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit))
		return ferry_err_set(e, FERRY_E_IO, errno, "KVM_CREATE_PIT2");
	return wire_interrupts(kvm, e);
}

static void ask_limits(struct ferry_kvm *kvm)
{
	int bytes = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	kvm->xsave_bytes = sizeof(struct kvm_xsave);
	if (bytes > (int)kvm->xsave_bytes)
		kvm->xsave_bytes = (uint32_t)bytes;
	kvm->tsc_control = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION,
				 KVM_CAP_TSC_CONTROL) > 0;
}

int ferry_kvm_open(struct ferry_kvm *kvm, struct ferry_err *e)
{
	*kvm = (struct ferry_kvm)FERRY_KVM_NONE;
	kvm->fd = open_device(e);
	if (kvm->fd < 0)
		return -1;
	if (check_host(kvm, e) || make_vm(kvm, e)) {
		ferry_kvm_close(kvm);
		return -1;
	}
	ask_limits(kvm);
	return 0;
}

void ferry_kvm_close(struct ferry_kvm *kvm)
{
	ferry_cleanup_fd(&kvm->vm_fd);
	ferry_cleanup_fd(&kvm->fd);
	*kvm = (struct ferry_kvm)FERRY_KVM_NONE;
}

int ferry_kvm_map_ram(const struct ferry_kvm *kvm, const struct ferry_ram *ram,
		      struct ferry_err *e)
{
	struct ferry_kvm_slot slots[FERRY_RAM_SLOTS_MAX];
	size_t n = ferry_ram_slots(ram, slots);

	for (size_t i = 0; i < n; i++) {
		struct kvm_userspace_memory_region r = {
			.slot = slots[i].slot,
			.guest_phys_addr = slots[i].gpa,
			.memory_size = slots[i].bytes,
			.userspace_addr = (uintptr_t)slots[i].addr,
		};

		if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &r))
			return ferry_err_set(e, FERRY_E_IO, errno,
					     "KVM memory slot %u", r.slot);
	}
	return 0;
}

void ferry_kvm_set_irq(const struct ferry_kvm *kvm, unsigned gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	(void)ioctl(kvm->vm_fd, KVM_IRQ_LINE, &line);
}

int ferry_kvm_ioeventfd(const struct ferry_kvm *kvm, uint64_t gpa,
			uint32_t value, int fd, struct ferry_err *e)
{
	struct kvm_ioeventfd how = {
		.addr = gpa, .len = 4, .fd = fd, .datamatch = value,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	return !ioctl(kvm->vm_fd, KVM_IOEVENTFD, &how) ? 0 :
	       ferry_err_set(e, FERRY_E_IO, errno, "KVM_IOEVENTFD");
}

int ferry_kvm_irqfd(const struct ferry_kvm *kvm, unsigned gsi, int fd,
		    struct ferry_err *e)
{
	struct kvm_irqfd how = { .fd = (uint32_t)fd, .gsi = gsi };

	return !ioctl(kvm->vm_fd, KVM_IRQFD, &how) ? 0 :
	       ferry_err_set(e, FERRY_E_IO, errno, "KVM_IRQFD");
}
