/* SPDX-License-Identifier: MIT */
/* The memory map that a guest is told.  Pure. */
#include "vmm/layout.h"

#include "vmm/machine.h"

size_t ferry_layout_e820(uint64_t ram_bytes,
			 struct ferry_e820 map[FERRY_E820_MAX])
{
	uint64_t low = ram_bytes < FERRY_VMM_HOLE_START ? ram_bytes :
							  FERRY_VMM_HOLE_START;
	size_t n = 0;

	map[n++] = (struct ferry_e820){
		0, FERRY_GPA_LOW_END, FERRY_E820_RAM };
	map[n++] = (struct ferry_e820){
		FERRY_GPA_LOW_END, 0xa0000 - FERRY_GPA_LOW_END,
		FERRY_E820_RESERVED };
	map[n++] = (struct ferry_e820){
		FERRY_GPA_ACPI, FERRY_GPA_KERNEL - FERRY_GPA_ACPI,
		FERRY_E820_RESERVED };
	map[n++] = (struct ferry_e820){
		FERRY_GPA_KERNEL, low - FERRY_GPA_KERNEL, FERRY_E820_RAM };
	map[n++] = (struct ferry_e820){
		FERRY_VMM_HOLE_START,
		FERRY_VMM_HOLE_END - FERRY_VMM_HOLE_START,
		FERRY_E820_RESERVED };
	if (ram_bytes > low)
		map[n++] = (struct ferry_e820){
			FERRY_VMM_HOLE_END, ram_bytes - low, FERRY_E820_RAM };
	return n;
}
