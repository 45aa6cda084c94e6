/* SPDX-License-Identifier: MIT */
/*
 * libferry: live migration of running virtual machines, and of any program
 * whose memory should move.  This header includes all of the public API.
 */
#ifndef FERRY_FERRY_H
#define FERRY_FERRY_H

#include <ferry/bulk.h>
#include <ferry/credentials.h>
#include <ferry/err.h>
#include <ferry/event.h>
#include <ferry/foreign.h>
#include <ferry/params.h>
#include <ferry/probe.h>
#include <ferry/sized.h>
#include <ferry/source.h>
#include <ferry/state.h>
#include <ferry/target.h>
#include <ferry/version.h>
#include <ferry/vfio.h>
#include <ferry/vhost_fe.h>
#include <ferry/vm.h>

#endif
