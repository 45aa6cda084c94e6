/* SPDX-License-Identifier: MIT */
/*
 * What libferry keeps of a described VM, and nothing else of it: enough to
 * save a machine's sections, look at them, spoil them, and load them into
 * another machine without a migration.
 */
#ifndef TESTS_FAKE_FERRY_H
#define TESTS_FAKE_FERRY_H

#include <ferry/ferry.h>

#define FAKE_DEVICES_MAX	256
#define FAKE_FACTS_MAX		16

struct fake_state {
	unsigned char	*data;
	size_t		 bytes;
};

struct fake_device {
	char		 name[256];
	uint32_t	 instance, version;
	struct ferry_device_ops ops;
	void		*opaque;
};

struct fake_fact {
	char		 name[256], value[4097];
	enum ferry_fact_rule rule;
};

struct ferry_vm {
	struct ferry_block	 block;
	struct ferry_kvm_slot	 slots[2];
	size_t			 slot_count;
	size_t			 device_count, fact_count;
	struct fake_device	 device[FAKE_DEVICES_MAX];
	struct fake_fact	 fact[FAKE_FACTS_MAX];
	uint64_t		 dirty_bytes;
};

struct ferry_vm *fake_vm_new(void);
void fake_vm_free(struct ferry_vm *vm);

int fake_save(const struct fake_device *d, struct fake_state *s,
	      struct ferry_err *e);
int fake_load(const struct fake_device *d, const struct fake_state *s,
	      struct ferry_err *e);

/* NULL when there is none. */
const struct fake_device *fake_device(const struct ferry_vm *vm,
				      const char *name, uint32_t instance);
const char *fake_fact(const struct ferry_vm *vm, const char *name);

/* Memory and every section from one stopped machine to another. */
int fake_migrate(const struct ferry_vm *from, struct ferry_vm *to,
		 struct ferry_err *e);

#endif
