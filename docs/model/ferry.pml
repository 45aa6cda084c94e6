/* SPDX-License-Identifier: MIT */
/*
 * The switchover, postcopy and recovery between two ferries, for spin: what
 * src/mig does, one step of a thread at a time, with a link that breaks at any
 * moment and sides that die at any moment.  README.md beside this file says
 * what is in it, what is not, and how to run it.
 *
 * move(side, FROM, TO) names a row of src/mig/states.c; check-model compares the
 * two lists.  What is behind a MUTANT is an error that somebody could make; the
 * same test builds the model with each, and spin must object.
 */
#ifndef CUTS
#define CUTS	2		/* how often the link breaks */
#endif
#ifndef DEATHS
#define DEATHS	1		/* how many sides die */
#endif
#ifndef ROOM
#define ROOM	2		/* what a channel holds before writers wait */
#endif
/* With -DLEASE the migration has one, and the source may be rolled back. */
#ifdef LEASE
#ifndef TICKS
#define TICKS	1		/* how far time goes; a lease is one */
#endif
#define LINKS	(CUTS + 3)	/* connections there may be */
#else
#define LINKS	(CUTS + 2)
#endif

#define PAGES	2
#define BIT(p)	(1 << (p))	/* sets of pages are bits */
#define ALL	3

#define S	0		/* the source */
#define T	1		/* the target */

mtype:state = {
	NONE, SETUP, ACTIVE, DEVICE, POSTCOPY_ACTIVE, POSTCOPY_PAUSED,
	POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER, COMPLETED, FAILED,
	CANCELLING, CANCELLED
};
mtype:word = {
	/* S to T, on main */
	HELLO, OPEN, DISCARD, PACKAGE, RUN, FINISH, ABORT, ASK_BITMAP, RESUME,
	VOID,
	/* S to T, on the lanes */
	PAGE, SYNC,
	/* T to S */
	ANSWER, SYNCED, LOADED, RUNNING, REQUEST, BITMAP, RESUME_ACK, SHUT_0,
	SHUT_1
};
mtype:page = { MISSING, STALE, FRESH, OWN };	/* OWN: written at T since */
mtype:load = { NOTHING, BUSY, READY, STARTED, BAD };

/* ---- the world ------------------------------------------------------------ */

/* One connection is main, both ways, and two lanes for pages: data, urgent. */
chan toward[LINKS] = [ROOM] of { mtype:word, byte };
chan back[LINKS] = [ROOM] of { mtype:word, byte };
chan lanes[2 * LINKS] = [ROOM] of { mtype:word, byte };
#define lane(link, k)	lanes[2 * (link) + (k)]
byte links;			/* made so far; the newest is links - 1 */

/*
 * A link breaks for good, all of it or its lanes only.  What was written
 * before is read or lost: each channel loses a tail of its own.  What is
 * written afterwards is lost, noticed or not.  A side that shuts a link down
 * (it was told to pause, was cancelled, is tired of silence) breaks it in the
 * same way.
 */
#define WHOLE	0
#define LAME	1
#define GONE	2
byte cut[LINKS];

bool dead[2];
bool runs[2];			/* the VM does */
bool ran_there;			/* it ever ran at T */

/* Drawn at the start, and so is how often what happens: a run that ends
 * shows what holds when no more is to come. */
bool postcopy;			/* else precopy */
bool push;			/* else only what is requested is sent */
byte cuts, deaths;		/* to come */
bool will_cancel[2];

mtype:state state[2] = NONE;

/*
 * The lease.  Time goes when it likes, and is the same for both: what each does
 * with it is what counts.  T may run before `until`; what S said may let it run
 * until `last` + 1, and S waits for that.  ASK_LEASE and RENEW are on their way
 * for as long as they like, or get lost with the link; their order with other
 * words does not matter, so each has a place of its own instead of one in main.
 */
#ifdef LEASE
bool will_roll_back;		/* the user says that T is dead, true or not */
byte today;
byte until;			/* T: 0: it was never given */
byte loaded_at;			/* T: when LOADED was said on this link */
byte said_at;			/* T: 1 + when it asked last on this link */
bool let_off;			/* T: for good */
bool is_void;			/* T: told so */
byte last;			/* S */
byte ask, renew;		/* on their way: 1 + when T asked */
bool may_be_free;			/* S: T may be let off */
bool burnt;			/* S: rolled back */
#define may_go	(!is_void && (let_off || today < until))
#define is_home_again	burnt
#define goes_on	true		/* something is said behind RUN */
#else
#define may_go	true
#define is_home_again	false
#define goes_on	postcopy
#endif
#define t_runs	(runs[T] && may_go)

#define move(side, from, to) \
	d_step { assert(state[side] == from); state[side] = to }

inline start(side)
{
	d_step {
		assert(side == T || !t_runs);
		assert(side == S || !runs[S] || !may_go);
		assert(side == T || !ran_there || is_home_again);
		runs[side] = true;
		ran_there = ran_there || side == T
	}
}

/* ---- what each side knows ------------------------------------------------- */

bool handed[2];			/* S: RUN was sent; T: RUN was read */

/* The source. */
#define OPEN_GATE	0
#define CANCELLED_GATE	1
#define COMMITTED_GATE	2
byte gate;			/* which comes first, cancel or commit */
byte sl;			/* its link */
bool heard;			/* T said that it runs the VM */
byte owed;			/* pages */
bool answering;			/* requests may come */
bool listening, busy;		/* thread `returns` shall work; is at work */
bool r_answer, r_synced, r_loaded, r_running, r_bitmap, r_resumed, r_shut;
bool refused, broken;
byte bitmap;			/* that r_bitmap came with */

/* The target. */
#define NOBODY	255
byte tl = NOBODY;		/* its link */
bool listens;			/* the door is open */
bool quit;			/* cancelled here */
bool given_up;			/* SHUT 1 was said */
bool ended;			/* the reader has left this link */
bool open;			/* requests may be said */
bool receiving;			/* the receivers work on this link */
bool may_run, stop_loading;	/* orders to the loader */
mtype:load load = NOTHING;
mtype:page tpage[PAGES] = MISSING;
byte asked;			/* pages somebody waits for */
byte synced;			/* lanes whose mark has come */

#define here	((tpage[0] != MISSING) + 2 * (tpage[1] != MISSING))

/* ---- the source: src/mig/source_run.c, source_ferry.c, replies.c ---------- */

/*
 * A step goes from one wait to the next (atomic gives way where it would
 * wait).  What is written in it may be lost from the channel: that is as good
 * as not to be written, so a cut need not come inside.
 */

#define bad_news \
	(gate == CANCELLED_GATE || refused || (broken && !r_shut))

/* A word on main: taken, or lost without a sign, or an error. */
inline tell(m, a)
{
	if
	:: cut[sl] != GONE && nfull(toward[sl]) -> toward[sl]!m(a)
	:: cut[sl] == GONE
	:: cut[sl] == GONE -> goto trouble
	:: full(toward[sl]) && bad_news -> goto trouble
	fi
}

/* Whatever becomes of what is said then. */
inline give_lease()
{
#ifdef LEASE
	last = today
#else
	skip
#endif
}

/* The end of the lease: from here on T may run for good. */
inline let_go()
{
#ifdef LEASE
	may_be_free = true
#else
	skip
#endif
}

/* RUN counts as sent before it is.  What was not written whole is never read:
 * then main is shut down, and it does not count. */
inline tell_run()
{
#ifndef MUTANT_where_is_told_too_late
	handed[S] = true;
#endif
	give_lease();
	if
	:: cut[sl] != GONE && nfull(toward[sl]) -> toward[sl]!RUN(0)
	:: cut[sl] == GONE
	:: cut[sl] == GONE -> handed[S] = false; goto trouble
	:: full(toward[sl]) && bad_news ->
		cut[sl] = GONE;
		handed[S] = false;
		goto trouble
	fi
}

/* A reply that is there is seen before bad news is. */
inline await(reply)
{
	if
	:: reply -> reply = false
	:: !reply && bad_news -> goto trouble
	fi
}

/* On a lane: a page, claimed, or a mark. */
inline put(k, m, p)
{
	if
	:: cut[sl] == WHOLE && nfull(lane(sl, k)) -> lane(sl, k)!m(p)
	:: cut[sl] != WHOLE
	:: cut[sl] != WHOLE -> goto trouble
	:: full(lane(sl, k)) && bad_news -> goto trouble
	fi
}

inline finish()
{
	put(0, SYNC, 0);
	put(1, SYNC, 0);
	tell(FINISH, 0)
}

/* A new link; nothing that was heard on another counts. */
inline dial()
{
	assert(links < LINKS);	/* else the size of the model is wrong */
	sl = links;
	links++;
	cut[sl] = (dead[T] -> GONE : WHOLE);
#ifndef MUTANT_source_counts_what_it_heard_before
	r_answer = false; r_synced = false; r_loaded = false;
	r_running = false; r_bitmap = false; r_resumed = false;
	r_shut = false; refused = false;
#endif
#ifdef LEASE
	ask = 0; renew = 0;
#endif
	broken = false;
	listening = true
}

/* Threads end, connections are closed; what was not read never is. */
inline hang_up()
{
	listening = false;
	cut[sl] = GONE;
	!busy;
	answering = false;
	do
	:: nempty(back[sl]) -> back[sl]?_, _
	:: empty(back[sl]) -> break
	od
}

/* The conductor. */
proctype source() provided (!dead[S])
{
	bool stopped;

	atomic {
		move(S, NONE, SETUP);
		if
		:: listens -> dial()
#ifndef LEASE
		:: goto trouble		/* no such address */
#else
		:: dead[T] -> goto trouble	/* it died before */
#endif
		fi;
		tell(HELLO, 0);
		await(r_answer);
		tell(OPEN, 0);
		await(r_synced);
		move(S, SETUP, ACTIVE)
	};

	/* The passes.  What they sent came before a barrier: page 0, which was
	 * written since; page 1 was not sent yet. */
	atomic {
		if
		:: cut[sl] == WHOLE -> tpage[0] = STALE; owed = ALL
		:: goto trouble		/* they do not converge, or it broke */
		fi;
		if
		:: bad_news -> goto trouble
		:: else
		fi;
		move(S, ACTIVE, DEVICE);
		stopped = true;
		runs[S] = false
	};
	atomic {
		if
		:: postcopy -> tell(DISCARD, 0)
		:: !postcopy ->
			owed = 0;
			put(0, PAGE, 0);
			put(0, PAGE, 1);
			finish()
		fi;
		answering = postcopy;	/* loading may touch memory */
		tell(PACKAGE, 0);
		await(r_loaded)
	};
	atomic {
#ifndef MUTANT_source_obeys_cancel_after_run
		if
		:: gate == OPEN_GATE ->
			gate = COMMITTED_GATE;
			will_cancel[S] = false
		:: gate == CANCELLED_GATE -> goto trouble
		fi;
#endif
		tell_run()
	};
#ifdef MUTANT_where_is_told_too_late
	handed[S] = true;
#endif
	atomic {
		await(r_running);
		heard = true;
		if
		:: !goes_on -> goto done
		:: goes_on && !postcopy
		:: postcopy -> move(S, DEVICE, POSTCOPY_ACTIVE)
		fi
	};

send:
	do
	:: atomic { owed & 1 && push -> put(0, PAGE, 0); owed = owed & ~1 }
	:: atomic { owed & 2 && push -> put(0, PAGE, 1); owed = owed & ~2 }
	:: owed && bad_news -> goto trouble
	:: !owed -> break
	od;
	atomic {
		let_go();
		finish();
		await(r_shut)
	};

done:	/* Before it is closed, SHUT was read or waited for in vain. */
	atomic {
		hang_up();
		if
		:: state[S] == DEVICE -> move(S, DEVICE, COMPLETED)
		:: state[S] == POSTCOPY_ACTIVE ->
			move(S, POSTCOPY_ACTIVE, COMPLETED)
		:: state[S] == POSTCOPY_RECOVER ->
			move(S, POSTCOPY_RECOVER, COMPLETED)
		fi;
		goto over
	};

trouble:	/* A while later: a last word is waited for. */
	if
#ifdef LEASE
	:: burnt -> goto again
#endif
#if defined(MUTANT_source_resumes_after_run)
	:: handed[S] && heard -> goto paused
#elif defined(MUTANT_source_obeys_cancel_after_run)
	:: handed[S] && gate != CANCELLED_GATE -> goto paused
#else
	:: handed[S] && (!refused || heard) -> goto paused
#endif
	:: else
	fi;

	/* Not handed over, or given back: it goes on here. */
	atomic {
		will_cancel[S] = false;
		if
		:: gate == CANCELLED_GATE ->
			if
			:: state[S] == SETUP -> move(S, SETUP, CANCELLING)
			:: state[S] == ACTIVE -> move(S, ACTIVE, CANCELLING)
			:: state[S] == DEVICE -> move(S, DEVICE, CANCELLING)
			fi
		:: else
		fi;
		if
		:: links && !handed[S] && cut[sl] != GONE &&
		   nfull(toward[sl]) -> toward[sl]!ABORT(0)
		:: !links || handed[S] || cut[sl] == GONE || full(toward[sl])
		fi;
		if
		:: links -> hang_up()
		:: else
		fi;
		handed[S] = false;
		if
		:: stopped -> start(S)
		:: else
		fi;
		if
		:: state[S] == CANCELLING -> move(S, CANCELLING, CANCELLED)
		:: state[S] == SETUP -> move(S, SETUP, FAILED)
		:: state[S] == ACTIVE -> move(S, ACTIVE, FAILED)
		:: state[S] == DEVICE -> move(S, DEVICE, FAILED)
		:: state[S] == POSTCOPY_RECOVER ->
			move(S, POSTCOPY_RECOVER, FAILED)
		fi;
		goto over
	};

paused:	/* Nothing is freed. */
	atomic {
		hang_up();
		if
		:: state[S] == DEVICE -> move(S, DEVICE, POSTCOPY_PAUSED)
		:: state[S] == POSTCOPY_ACTIVE ->
			move(S, POSTCOPY_ACTIVE, POSTCOPY_PAUSED)
		:: state[S] == POSTCOPY_RECOVER_SETUP ->
			move(S, POSTCOPY_RECOVER_SETUP, POSTCOPY_PAUSED)
		:: state[S] == POSTCOPY_RECOVER ->
			move(S, POSTCOPY_RECOVER, POSTCOPY_PAUSED)
		fi
	};

	/* By itself or by hand, again and again; or it is given up. */
	atomic {
		if
#ifdef LEASE
		:: will_roll_back &&
#ifndef MUTANT_lease_is_not_waited_for
		   today >= last + 1 &&
#endif
#ifndef MUTANT_lease_may_have_ended
		   !may_be_free &&
#endif
		   true ->
			burnt = true;
			last = 0;
			handed[S] = false;
			start(S);
			move(S, POSTCOPY_PAUSED, FAILED);
			goto again
#endif
		:: !dead[T]
		fi;
		move(S, POSTCOPY_PAUSED, POSTCOPY_RECOVER_SETUP);
		dial();
		tell(HELLO, 0);		/* the same session id */
		await(r_answer);
		move(S, POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER);
#ifdef LEASE
		may_be_free = may_be_free && (r_shut || !(r_running || r_loaded));
#endif
		if
		:: r_shut -> goto done
		:: !r_shut && r_running ->
			r_running = false;
			heard = true
		:: !r_shut && !r_running && r_loaded ->
			r_loaded = false;
			give_lease();
			tell(RUN, 0)	/* it may have been read already */
		:: !r_shut && !r_loaded && !r_running && bad_news ->
			goto trouble
		fi;
		if
		:: !goes_on && !heard -> await(r_running); heard = true
		:: else
		fi;
		if
		:: !goes_on -> goto done
		:: goes_on
		fi;
		tell(ASK_BITMAP, 0);
		await(r_bitmap);
#ifndef MUTANT_source_forgets_what_was_in_flight
		owed = ALL & ~bitmap;
#endif
		bitmap = 0;
		answering = true;
		tell(RESUME, 0);
		await(r_resumed);
		if	/* before, starting it might have waited for pages */
		:: !heard -> await(r_running); heard = true
		:: heard
		fi;
		move(S, POSTCOPY_RECOVER, POSTCOPY_ACTIVE)
	};
	goto send;

#ifdef LEASE
again:	/* The VM is here.  T, if it lives, is looked for, and told. */
	atomic {
		hang_up();
		!dead[T];
		dial();
		tell(HELLO, 0);
		await(r_answer);
		if
		:: r_running || r_loaded
		:: r_shut -> assert(false)	/* it has all of it, and runs */
		:: !r_running && !r_loaded && !r_shut && bad_news ->
			goto told
		fi;
		tell(VOID, 0);
		bad_news
	};
told:
	if
	:: refused -> hang_up()
	:: !refused -> goto again
	fi;
#endif
over:
	skip
}

#ifdef LEASE
/* Signs of life, of which only those count that renew. */
proctype heart() provided (!dead[S])
{
	do
	:: d_step {
		listening && ask &&
#ifndef MUTANT_lease_is_renewed_behind_a_rollback
		!burnt &&
#endif
		true ->
#ifndef MUTANT_lease_that_was_renewed_is_forgotten
		last = today;
#endif
		renew = (cut[sl] != GONE -> ask : 0);
		ask = 0
	   }
	od
}
#endif

/* The return path: requests are answered here, the rest is noted. */
proctype returns() provided (!dead[S])
{
	mtype:word m;
	byte a;

	do
	:: atomic {
		listening && !broken && nempty(back[sl]) ->
		back[sl]?m(a);
		if
		:: m == REQUEST ->
			assert(answering);
			busy = true;
			if	/* whether bulk has sent it or not */
			:: cut[sl] == WHOLE && nfull(lane(sl, 1)) ->
				owed = owed & ~BIT(a);
				lane(sl, 1)!PAGE(a)
			:: cut[sl] != WHOLE -> owed = owed & ~BIT(a)
			:: cut[sl] != WHOLE -> broken = true
			fi;
			busy = false
		:: m == ANSWER -> r_answer = true
		:: m == SYNCED -> r_synced = true
		:: m == LOADED -> r_loaded = true
		:: m == RUNNING -> r_running = true
		:: m == BITMAP -> r_bitmap = true; bitmap = a
		:: m == RESUME_ACK -> r_resumed = true
		:: m == SHUT_0 -> r_shut = true
		:: m == SHUT_1 -> refused = true
		fi;
		m = 0;
		a = 0
	   }
	:: d_step {
		listening && !busy && !broken && cut[sl] == GONE ->
		broken = true
	   }
	od
}

/* ---- the target: src/mig/target_main.c, target_command.c, target_load.c,
 *      target_watch.c, src/recv ---------------------------------------------- */

inline say(m, a)
{
	if
	:: cut[tl] != GONE && nfull(back[tl]) -> back[tl]!m(a)
	:: cut[tl] == GONE
	fi
}

inline request(p)
{
	if
	:: open && cut[tl] != GONE && nfull(back[tl]) -> back[tl]!REQUEST(p)
	:: !open || cut[tl] == GONE
	fi
}

/* SHUT 1, if it still goes out; then nothing does. */
inline shut_1()
{
	if
	:: cut[tl] != GONE && nfull(back[tl]) -> back[tl]!SHUT_1(0)
	:: cut[tl] == GONE || full(back[tl])
	fi;
	cut[tl] = GONE
}

/* Another thread than the reader has bad news.  Behind LOADED a link that is
 * lost is no reason to give up. */
inline failed(for_good)
{
	if
	:: ended
#ifdef MUTANT_target_renounces_and_runs
	:: !ended && !handed[T] -> shut_1()
#else
	:: !ended && !handed[T] && (for_good || load != READY) ->
		given_up = true;
		shut_1()
#endif
	:: else -> cut[tl] = GONE
	fi
}

/* Who touches a page that is missing waits for it. */
inline touch(p)
{
	if
	:: tpage[p] == MISSING && !(asked & BIT(p)) ->
		asked = asked | BIT(p);
		request(p)
	:: else
	fi
}

/* Somebody is at the door, and has said who. */
#define newer \
	(links > 0 && (tl == NOBODY || links - 1 > tl) && \
	 nempty(toward[links - 1]))

/* Bad news; and a source that comes back while this link seems to live has
 * given it up, so then do we. */
#define no_more	(cut[tl] == GONE || quit || given_up || newer)

inline leave_link()
{
	d_step {
		ended = true;
		receiving = false;
		open = false;
		cut[tl] = GONE;
		synced = 0;
		do
		:: nempty(toward[tl]) -> toward[tl]?_, _
		:: nempty(lane(tl, 0)) -> lane(tl, 0)?_, _
		:: nempty(lane(tl, 1)) -> lane(tl, 1)?_, _
		:: empty(toward[tl]) && empty(lane(tl, 0)) &&
		   empty(lane(tl, 1)) -> break
		od
	}
}

/* Before LOADED, or RUNNING: RUN may answer it. */
inline note_loaded()
{
#ifdef LEASE
	loaded_at = today
#else
	skip
#endif
}

inline take_link()
{
	tl = links - 1;
	toward[tl]?HELLO(_);
#ifdef LEASE
	said_at = 0;
#endif
	ended = false;
	receiving = true
}

#ifdef LEASE
inline extend(since)
{
	until = (since + 1 > until -> since + 1 : until)
}

/* Once in a while, from LOADED on: before, it does not matter. */
proctype asker() provided (!dead[T])
{
	do
	:: d_step {
		handed[T] && !ended && !let_off && said_at <= today &&
		tl == sl && cut[tl] != GONE ->
		said_at = 1 + today;
		ask = 1 + today
	   }
	od
}
#endif

/* The reader. */
proctype target() provided (!dead[T])
{
	atomic {
		move(T, NONE, SETUP);
		if
		:: listens = true
#ifndef LEASE
		:: move(T, SETUP, FAILED); will_cancel[T] = false; goto over
#endif
		fi;
		if
		:: newer -> take_link()
		:: quit -> goto trouble
		fi;
		if
		:: say(ANSWER, 0)
#ifndef LEASE
		:: shut_1(); goto trouble	/* it does not fit */
#endif
		fi;
		if
		:: toward[tl]?OPEN(_)
		:: toward[tl]?ABORT(_) -> goto trouble
		:: no_more -> goto trouble
		fi;
		move(T, SETUP, ACTIVE);
		say(SYNCED, 0)
	};

stream:
	if
	:: atomic {
		toward[tl]?DISCARD(0);
#ifndef MUTANT_target_keeps_what_is_stale
		tpage[0] = MISSING;
#endif
		goto stream
	   }
	:: atomic {
		toward[tl]?FINISH(_);
#ifndef MUTANT_target_does_not_wait_for_marks
		if
		:: synced == 3 -> synced = 0
		:: synced != 3 && no_more -> goto trouble
		fi;
#endif
		assert(here == ALL);	/* else: "pages were never sent" */
		if
		:: postcopy || handed[T] -> goto started
		:: !postcopy && !handed[T] -> goto stream
		fi
	   }
#ifdef LEASE
	:: atomic {
		renew && tl == sl ->
#ifdef MUTANT_lease_counts_from_when_it_comes
		extend(today);
#else
		extend(renew - 1);
#endif
		renew = 0;
		goto stream
	   }
	:: atomic {
		toward[tl]?VOID(_);
		is_void = true;
		runs[T] = false;
		handed[T] = false;
		given_up = true;
		goto give_up
	   }
#endif
	:: atomic {
		toward[tl]?PACKAGE(_);
		assert(postcopy || here == ALL);
		move(T, ACTIVE, DEVICE);
		open = postcopy;
		load = BUSY;
		goto stream
	   }
	:: atomic {
		toward[tl]?RUN(_);
#ifdef LEASE
		extend(loaded_at);
#endif
		if
		:: handed[T] -> goto stream	/* said again */
		:: !handed[T]
		fi;
		if
		:: load == READY
		:: load == BAD || (load != READY && quit) -> goto trouble
		fi;
		if
		:: !quit && !given_up ->
			handed[T] = true;
			may_run = true;
			will_cancel[T] = false
		:: quit || given_up -> goto trouble
		fi;
		if
		:: !goes_on -> goto started
		:: goes_on -> goto stream
		fi
	   }
	:: atomic {
		toward[tl]?ABORT(_);
		given_up = true;
		goto trouble
	   }
	:: atomic {
		toward[tl]?ASK_BITMAP(_);
		if
		:: state[T] == POSTCOPY_RECOVER_SETUP ->
			move(T, POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER)
		:: else		/* the link was lost before RUN came */
		fi;
		say(BITMAP, here);
		goto stream
	   }
	:: atomic {
		toward[tl]?RESUME(_);
		say(RESUME_ACK, 0);
		open = true;
#ifndef MUTANT_target_never_asks_again
		if
		:: asked & 1 && tpage[0] == MISSING -> request(0)
		:: else
		fi;
		if
		:: asked & 2 && tpage[1] == MISSING -> request(1)
		:: else
		fi;
#endif
		if
		:: state[T] == POSTCOPY_RECOVER ->
			move(T, POSTCOPY_RECOVER, POSTCOPY_ACTIVE)
		:: else
		fi;
		goto stream
	   }
	:: no_more -> goto trouble
	fi;

started:
	atomic {
		if
		:: load == STARTED
		:: load == BAD -> goto trouble
		fi;
		open = false;	/* the fault thread has ended */
#ifdef LEASE
		let_off = true;
		until = 0;
#endif
		say(SHUT_0, 0);
		ended = true;
		if
		:: state[T] == DEVICE -> move(T, DEVICE, COMPLETED)
		:: state[T] == POSTCOPY_ACTIVE ->
			move(T, POSTCOPY_ACTIVE, COMPLETED)
		fi;
		goto door
	};

trouble:
	atomic {
		if
		:: state[T] == SETUP && tl != NOBODY && !quit ->
			shut_1();
			quit	/* another source does not come */
		:: else
		fi;
		if
		:: handed[T] -> goto paused
		:: !handed[T] && load == READY && !quit && !given_up ->
			goto waiting
		:: else
		fi
	};

give_up:
	atomic {
		given_up = true;
		will_cancel[T] = false;
		if
		:: tl != NOBODY -> shut_1(); leave_link()
		:: else
		fi;
		stop_loading = true;
		if
		:: quit ->
			if
			:: state[T] == SETUP -> move(T, SETUP, CANCELLING)
			:: state[T] == ACTIVE -> move(T, ACTIVE, CANCELLING)
			:: state[T] == DEVICE -> move(T, DEVICE, CANCELLING)
			fi;
			move(T, CANCELLING, CANCELLED)
		:: else ->
			if	/* it was handed over, and did not start */
			:: state[T] == POSTCOPY_RECOVER_SETUP ->
				move(T, POSTCOPY_RECOVER_SETUP, POSTCOPY_PAUSED)
			:: state[T] == POSTCOPY_RECOVER ->
				move(T, POSTCOPY_RECOVER, POSTCOPY_PAUSED)
			:: state[T] == POSTCOPY_ACTIVE ->
				move(T, POSTCOPY_ACTIVE, POSTCOPY_PAUSED)
			:: else
			fi;
			if
			:: state[T] == ACTIVE -> move(T, ACTIVE, FAILED)
			:: state[T] == DEVICE -> move(T, DEVICE, FAILED)
			:: state[T] == POSTCOPY_PAUSED ->
				move(T, POSTCOPY_PAUSED, FAILED)
			fi
		fi;
		goto door
	};

waiting:	/* LOADED was said: the source may have sent RUN, or not. */
	atomic {
		leave_link();
		if
		:: newer -> take_link()
		:: goto give_up		/* nobody came for so long, or it was
					 * S, which has the VM */
		:: quit -> goto give_up
		fi;
		say(ANSWER, 0);
		note_loaded();
		say(LOADED, 0);
		goto stream
	};

paused:
	atomic {
		leave_link();
		if
		:: state[T] == DEVICE -> move(T, DEVICE, POSTCOPY_PAUSED)
		:: state[T] == POSTCOPY_ACTIVE ->
			move(T, POSTCOPY_ACTIVE, POSTCOPY_PAUSED)
		:: state[T] == POSTCOPY_RECOVER_SETUP ->
			move(T, POSTCOPY_RECOVER_SETUP, POSTCOPY_PAUSED)
		:: state[T] == POSTCOPY_RECOVER ->
			move(T, POSTCOPY_RECOVER, POSTCOPY_PAUSED)
		fi
	};
	atomic {
		if
		:: load == BAD -> move(T, POSTCOPY_PAUSED, FAILED); goto door
		:: load != BAD && newer -> take_link()
		fi;
		move(T, POSTCOPY_PAUSED, POSTCOPY_RECOVER_SETUP);
		say(ANSWER, 0);
		note_loaded();
		if	/* else the loader says it, behind this */
		:: runs[T] -> say(RUNNING, 0)
		:: !runs[T] -> say(LOADED, 0)
		fi;
		goto stream
	};

door:	/* All is over; who comes back is told how. */
#ifndef MUTANT_nobody_is_at_the_door_at_the_end
	atomic {
#ifdef MUTANT_a_cancelled_target_knows_nobody
		newer && !quit -> tl = links - 1;
#else
		newer -> tl = links - 1;
#endif
		toward[tl]?HELLO(_);
		say(ANSWER, 0);
		if
		:: state[T] == COMPLETED -> say(SHUT_0, 0)
		:: else -> say(SHUT_1, 0)
		fi;
		goto door
	};
#endif
over:
	skip
}

/* What comes on a lane is placed, if it was missing. */
inline place(p)
{
	if
	:: !postcopy -> tpage[p] = FRESH
#ifdef MUTANT_target_places_a_second_copy
	:: postcopy -> assert(tpage[p] != OWN); tpage[p] = FRESH
#else
	:: postcopy && tpage[p] == MISSING ->
		tpage[p] = FRESH;
		asked = asked & ~BIT(p)
	:: else
#endif
	fi
}

proctype receiver(byte k) provided (!dead[T])
{
	mtype:word m;
	byte a;

	do
	:: atomic {
		receiving && nempty(lane(tl, k)) ->
		lane(tl, k)?m(a);
		if
		:: m == PAGE -> place(a)
		:: m == SYNC -> synced = synced | BIT(k)
		fi;
		m = 0;
		a = 0
	   }
	:: atomic {
		receiving && !ended && cut[tl] == LAME -> failed(false)
	   }
	od
}

/* Loads the devices, starts the VM. */
proctype loader() provided (!dead[T])
{
	atomic {
		load == BUSY;
		if
		:: postcopy -> touch(1); tpage[1] != MISSING || stop_loading
		:: true
		fi;
		if
#ifndef LEASE
		:: failed(true); load = BAD; goto over
#endif
		:: note_loaded(); say(LOADED, 0); load = READY
		fi
	};
#ifndef MUTANT_target_starts_without_run
	if
	:: may_run
	:: stop_loading -> goto over
	fi;
#endif
	if
	:: atomic {	/* given back and given up in one */
		handed[T] = false;
		failed(true);
		load = BAD;
		goto over
	   }
	:: start(T)
	fi;
	atomic { say(RUNNING, 0) };
	atomic {
		if
		:: state[T] == DEVICE && postcopy ->
			move(T, DEVICE, POSTCOPY_ACTIVE)
		:: else
		fi;
		load = STARTED
	};
over:
	skip
}

/* The VM: it writes every page.  Who waited for one goes on when it comes, if
 * the VM runs then. */
#ifdef MUTANT_lease_does_not_hold_who_waited
#define goes	true
#else
#define goes	t_runs
#endif

proctype guest() provided (!dead[T])
{
	runs[T];
	do
	:: atomic {
		tpage[0] != OWN && t_runs ->
		touch(0);
		tpage[0] != MISSING && goes;
		assert(t_runs && tpage[0] != STALE);
		tpage[0] = OWN
	   }
	:: atomic {
		tpage[1] != OWN && t_runs ->
		touch(1);
		tpage[1] != MISSING && goes;
		assert(t_runs && tpage[1] != STALE);
		tpage[1] = OWN
	   }
	:: tpage[0] == OWN && tpage[1] == OWN -> break
	od
}

/* ---- what happens to them -------------------------------------------------- */

#define newest	cut[links - 1]

proctype world()
{
end:
	do
	:: d_step {
		cuts && links && newest == WHOLE ->
		newest = LAME;
		cuts--
	   }
	:: d_step {
		cuts && links && newest != GONE ->
		newest = GONE;
		cuts--
	   }
	:: atomic {
		deaths ->
		if
		:: !dead[S] -> dead[S] = true; runs[S] = false
		:: !dead[T] -> dead[T] = true; runs[T] = false
		fi;
		if
		:: links -> newest = GONE
		:: else
		fi;
		will_cancel[S] = false;
		will_cancel[T] = false;
		deaths--
	   }
	:: d_step {
		will_cancel[S] && state[S] != NONE && gate == OPEN_GATE ->
		gate = CANCELLED_GATE;
		will_cancel[S] = false
	   }
	:: d_step {
		will_cancel[T] && state[T] != NONE && !handed[T] ->
		quit = true;
		will_cancel[T] = false
	   }
#ifdef LEASE
	:: today < TICKS && handed[S] -> today++
#endif
	od
}
/* ---- what must hold -------------------------------------------------------- */

/* At any moment. */
#define on_its_way(p) \
	(lane(sl, 0)??[PAGE(p)] || lane(sl, 1)??[PAGE(p)])
#define both_active \
	(state[S] == POSTCOPY_ACTIVE && state[T] == POSTCOPY_ACTIVE && \
	 sl == tl && cut[sl] == WHOLE)
#define owed_by_nobody(p) \
	(tpage[p] == MISSING && !(owed & BIT(p)) && !on_its_way(p))

proctype watch()
{
	if
	:: runs[S] && t_runs -> assert(false)
	:: both_active && (owed_by_nobody(0) || owed_by_nobody(1)) ->
		assert(false)
	/* "source", and safe to start there */
	:: !dead[S] && !handed[S] && !is_home_again && ran_there ->
		assert(false)
	/* "split" */
	:: heard && !ran_there -> assert(false)
	/* "target" */
	:: state[S] == COMPLETED && here != ALL -> assert(false)
	:: state[T] == COMPLETED && here != ALL -> assert(false)
	fi
}

/* At the end: every run has one. */
#define is_home \
	(runs[S] && !t_runs && \
	 (state[S] == FAILED || state[S] == CANCELLED) && \
	 (dead[T] || state[T] == SETUP || state[T] == FAILED || \
	  state[T] == CANCELLED))
#define is_there \
	(!runs[S] && t_runs && state[T] == COMPLETED && \
	 tpage[0] == OWN && tpage[1] == OWN)

proctype judge()
{
	timeout ->
	if
	:: !dead[S] && !dead[T] ->
		assert(is_home || (is_there && state[S] == COMPLETED))
	:: !dead[S] && dead[T] ->
		assert(is_home || (!runs[S] && handed[S] &&
			(state[S] == POSTCOPY_PAUSED ||
			 state[S] == COMPLETED)))
	:: dead[S] && !dead[T] ->
		assert(is_there || (handed[T] && runs[T] &&
				    state[T] == POSTCOPY_PAUSED) ||
#ifdef LEASE
		       /* it was rolled back, said so, and died */
		       (is_void && burnt && state[T] == FAILED) ||
#endif
		       (!handed[T] && !runs[T] &&
			(state[T] == SETUP || state[T] == FAILED ||
			 state[T] == CANCELLED)))
	:: else
	fi
}

init {
	atomic {
		if
		:: postcopy = true
#ifndef LEASE
		:: postcopy = true; push = true
#endif
		:: true
		fi;
		select(cuts : 0 .. CUTS);
		select(deaths : 0 .. DEATHS);
#ifdef LEASE
		if
		:: will_roll_back = true
		:: true
		fi;
		run heart();
		run asker();
#else
		if
		:: will_cancel[S] = true
		:: will_cancel[T] = true
		:: true
		fi;
#endif
		runs[S] = true;
		run source();
		run returns();
		run target();
		run receiver(0);
		run receiver(1);
		run loader();
		run guest();
		run world();
		run watch();
		run judge()
	}
}
