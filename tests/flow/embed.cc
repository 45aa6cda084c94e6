/* SPDX-License-Identifier: MIT */
/*
 * libferry embedded in a C++17 program, through <ferry/ferry.h> alone: two
 * regions that are being written move at once, each from a source to a target
 * in this process.  Exits with 0 when both have arrived octet for octet.
 */
#include <ferry/ferry.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include <sys/mman.h>

namespace {

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t pages = 2048;

/* One side of a migration: memory, and whoever writes it. */
class Region {
public:
	explicit Region(const char *name)
	{
		ferry_vm_ops ops = FERRY_VM_OPS_INIT;
		ferry_block block = FERRY_BLOCK_INIT;
		ferry_err err = {};

		mem = map();
		ops.stop = [](void *self, ferry_err *) {
			return static_cast<Region *>(self)->stop();
		};
		ops.resume = [](void *self) {
			static_cast<Region *>(self)->run();
		};
		ops.start = [](void *self, int running, ferry_err *) {
			static_cast<Region *>(self)->started = running != 0;
			return 0;
		};
		ops.throttle = [](void *, unsigned) {};
		ops.running = [](void *self) {
			return static_cast<Region *>(self)->is_running();
		};
		vm = ferry_vm_new(name, &ops, this, &err);
		block.name = "region";
		block.addr = mem;
		block.bytes = pages * page_bytes;
		if (vm == nullptr || ferry_vm_add_block(vm, &block, &err) != 0)
			die("describe", err);
	}

	~Region()
	{
		stop();
		ferry_vm_free(vm);
		munmap(mem, pages * page_bytes);
	}

	Region(const Region &) = delete;
	Region &operator=(const Region &) = delete;

	void run()
	{
		go = true;
		writer = std::thread([this] { write(); });
	}

	int stop()
	{
		go = false;
		if (writer.joinable())
			writer.join();
		return 0;
	}

	int is_running() const { return writer.joinable() ? 1 : 0; }

	bool equals(const Region &other) const
	{
		return memcmp(mem, other.mem, pages * page_bytes) == 0;
	}

	[[noreturn]] static void die(const char *what, const ferry_err &err)
	{
		std::fprintf(stderr, "%s: %s (%s)\n", what, err.msg,
			     ferry_err_name(err.code));
		std::exit(1);
	}

	ferry_vm *vm = nullptr;
	bool started = false;
	unsigned long steps = 0;

private:
	static unsigned char *map()
	{
		void *p = mmap(nullptr, pages * page_bytes,
			       PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			std::exit(1);
		return static_cast<unsigned char *>(p);
	}

	/* The engine reads a page while it is written, and again when told:
	 * no race that a sanitizer should report. */
#if defined(__SANITIZE_THREAD__)
	__attribute__((no_sanitize("thread")))
#endif
	void write()
	{
		while (go) {
			unsigned char *page =
				mem + steps * 7 % pages * page_bytes;

			for (std::size_t i = 0; i < 64; i++)
				page[i] = static_cast<unsigned char>(steps + i);
			ferry_vm_mark_dirty(vm, page, 64);
			steps++;
			if (steps % 64 == 0)
				std::this_thread::yield();
		}
	}

	unsigned char *mem = nullptr;
	std::atomic<bool> go{ false };
	std::thread writer;
};

/* From one region to another; the target waits before the source begins. */
class Move {
public:
	explicit Move(const char *name) : from(name), to(name)
	{
		ferry_callbacks cb = FERRY_CALLBACKS_INIT;
		std::array<char, 128> uri{};
		ferry_err err = {};

		cb.opaque = this;
		cb.event = [](void *self, const ferry_event *event) {
			if (event->state == FERRY_STATE_COMPLETED)
				static_cast<Move *>(self)->completed++;
		};
		from.run();
		target = ferry_target_new(to.vm, nullptr, &cb, &err);
		source = ferry_source_new(from.vm, nullptr, &cb, &err);
		if (target == nullptr || source == nullptr ||
		    ferry_target_listen(target, "tcp:127.0.0.1:0", &err) != 0 ||
		    ferry_target_uri(target, uri.data(), uri.size(),
				     &err) != 0)
			Region::die("prepare", err);
		address = uri.data();
	}

	~Move() { release(); }

	Move(const Move &) = delete;
	Move &operator=(const Move &) = delete;

	void start()
	{
		ferry_err err = {};

		if (ferry_source_start(source, address.c_str(), &err) != 0)
			Region::die("start", err);
	}

	bool finish()
	{
		ferry_stats stats = FERRY_STATS_INIT;
		ferry_err err = {};

		if (ferry_source_wait(source, -1, &err) != 0 ||
		    ferry_target_wait(target, -1, &err) != 0)
			Region::die("wait", err);
		ferry_source_stats(source, &stats);
		std::printf("%s: %llu octets, %lu steps\n", address.c_str(),
			    static_cast<unsigned long long>(stats.sent_bytes),
			    from.steps);
		release();	/* after that no event comes any more */
		return is(to.started, "the target was not started") &&
		       is(to.equals(from), "the memory differs") &&
		       is(completed == 2, "completion was not told twice") &&
		       is(stats.where == FERRY_WHERE_TARGET,
			  "the source has it still");
	}

private:
	void release()
	{
		ferry_source_free(source);
		ferry_target_free(target);
		source = nullptr;
		target = nullptr;
	}

	bool is(bool fine, const char *otherwise) const
	{
		if (!fine)
			std::fprintf(stderr, "%s: %s\n", address.c_str(),
				     otherwise);
		return fine;
	}

	Region from, to;
	ferry_source *source = nullptr;
	ferry_target *target = nullptr;
	std::atomic<int> completed{ 0 };
	std::string address;
};

} // namespace

int main()
{
	Move a("one"), b("another");

	a.start();
	b.start();
	return a.finish() && b.finish() ? 0 : 1;
}
