; The thread pool's native half: replays a recorded sequence of launches on all workers with one call.
;
; A launch is finished when all its *programs* have completed, not when all threads have arrived: a thread that the
; operating system has put aside holds nobody up unless it holds claimed programs. Programs are claimed from one
; counter per thread (own range first, then the others' ranges), so that memory locality follows the thread.
;
; Pool layout in bytes (pool.py allocates it, aligned to 64):
;    0 epoch i32        bumped when a job opens; idle workers wait on it
;    4 closed i32       1 while no job is open
;    8 active i32       workers inside a job
;   12 sleepers i32     workers in futex wait on epoch
;   16 launches ptr     24 count i64       32 first i32 (sequence number of launch 0)   36 shutdown i32
;   40 threads i32      44 spin i32 (pauses before a wait becomes a sleep)   48 base i64 (completed when the job opened)
;   64 completed i64    programs completed since the pool was made      72 waiters i32 (threads asleep on completed)
;  128 + 64 t           counter of thread t: sequence number of the launch << 32 | next program of its range
;
; Launch layout, 64 bytes each:
;    0 function ptr   8 slots ptr   16 programs i64   24 chunk i64 (smallest claim)
;   32 after i64 (programs of this recording that must have completed first)   40 end i64 (programs up to and with this)

declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare void @llvm.x86.sse2.pause()
declare i64 @llvm.umax.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)

define internal void @futex_wait(ptr %word, i32 %expected) noinline {
  %result = call i64 (i64, ...) @syscall(i64 202, ptr %word, i32 128, i32 %expected, ptr null, ptr null, i32 0)
  ret void
}

define internal void @futex_wake_all(ptr %word) noinline {
  %result = call i64 (i64, ...) @syscall(i64 202, ptr %word, i32 129, i32 2147483647, ptr null, ptr null, i32 0)
  ret void
}

; Pauses n times; pool.py times it once to turn microseconds into a number of pauses.
define void @zellige_pool_spin(i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void @llvm.x86.sse2.pause()
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}

; One step of waiting, of which %i pauses' worth have passed: at first a pause, later an offer of the processor to whoever
; else could run on it (on a busy machine that may be the very thread one waits for). Returns the step's cost in pauses.
define internal i32 @idle(i32 %i, i32 %spin) {
entry:
  %early = lshr i32 %spin, 3
  %fresh = icmp ult i32 %i, %early
  br i1 %fresh, label %pause, label %yield
pause:
  call void @llvm.x86.sse2.pause()
  ret i32 1
yield:
  %yielded = call i32 @sched_yield()
  ret i32 16
}

; Returns once at least %target programs have completed.
define internal void @wait_completed(ptr %pool, i64 %target) noinline {
entry:
  %completed = getelementptr i8, ptr %pool, i64 64
  %waiters = getelementptr i8, ptr %pool, i64 72
  %spin_at = getelementptr i8, ptr %pool, i64 44
  %spin = load i32, ptr %spin_at
  br label %look
look:
  %i = phi i32 [ 0, %entry ], [ %next, %idle ]
  %now = load atomic i64, ptr %completed acquire, align 8
  %ready = icmp uge i64 %now, %target
  br i1 %ready, label %done, label %again
again:
  %tired = icmp ugt i32 %i, %spin
  br i1 %tired, label %sleep, label %idle
idle:
  %spent = call i32 @idle(i32 %i, i32 %spin)
  %next = add i32 %i, %spent
  br label %look
sleep:
  %w0 = atomicrmw add ptr %waiters, i32 1 seq_cst
  br label %sleep_look
sleep_look:
  %seen = load atomic i64, ptr %completed seq_cst, align 8
  %ready2 = icmp uge i64 %seen, %target
  br i1 %ready2, label %awake, label %wait
wait:
  %low = trunc i64 %seen to i32
  call void @futex_wait(ptr %completed, i32 %low)
  br label %sleep_look
awake:
  %w1 = atomicrmw sub ptr %waiters, i32 1 seq_cst
  br label %done
done:
  ret void
}

; Claims a quarter of the rest (or a chunk, if that is more) of the programs of thread %victim's range of launch %seq: returns begin << 32 | end, or -1 when the range is used up.
define internal i64 @claim(ptr %pool, i64 %victim, i32 %seq, i64 %begin, i64 %end, i64 %chunk) alwaysinline {
entry:
  %offset = shl i64 %victim, 6
  %offset128 = add i64 %offset, 128
  %counter = getelementptr i8, ptr %pool, i64 %offset128
  %tag64 = zext i32 %seq to i64
  %tag = shl i64 %tag64, 32
  br label %try
try:
  %old = load atomic i64, ptr %counter acquire, align 8
  %old_tag64 = lshr i64 %old, 32
  %old_tag = trunc i64 %old_tag64 to i32
  %ahead = sub i32 %old_tag, %seq
  %passed = icmp sgt i32 %ahead, 0
  br i1 %passed, label %none, label %current
current:
  %same = icmp eq i32 %ahead, 0
  %low = and i64 %old, 4294967295
  %next = select i1 %same, i64 %low, i64 %begin
  %used = icmp uge i64 %next, %end
  br i1 %used, label %none, label %take
take:
  %left = sub i64 %end, %next
  %part = lshr i64 %left, 2
  %want = call i64 @llvm.umax.i64(i64 %part, i64 %chunk)
  %size = call i64 @llvm.umin.i64(i64 %want, i64 %left)
  %stop = add i64 %next, %size
  %new = or i64 %tag, %stop
  %exchange = cmpxchg ptr %counter, i64 %old, i64 %new acq_rel acquire
  %won = extractvalue { i64, i1 } %exchange, 1
  br i1 %won, label %claimed, label %try
claimed:
  %high = shl i64 %next, 32
  %range = or i64 %high, %stop
  ret i64 %range
none:
  ret i64 -1
}

; Helps with the open job until every launch has been claimed whole.
define internal void @participate(ptr %pool, i64 %me) noinline {
entry:
  %launches_at = getelementptr i8, ptr %pool, i64 16
  %launches = load ptr, ptr %launches_at
  %count_at = getelementptr i8, ptr %pool, i64 24
  %count = load i64, ptr %count_at
  %first_at = getelementptr i8, ptr %pool, i64 32
  %first = load i32, ptr %first_at
  %threads_at = getelementptr i8, ptr %pool, i64 40
  %threads32 = load i32, ptr %threads_at
  %threads = zext i32 %threads32 to i64
  %base_at = getelementptr i8, ptr %pool, i64 48
  %base = load i64, ptr %base_at
  %completed = getelementptr i8, ptr %pool, i64 64
  %waiters = getelementptr i8, ptr %pool, i64 72
  br label %launch
launch:
  %i = phi i64 [ 0, %entry ], [ %i_next, %next ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %open, label %done
open:
  %at = shl i64 %i, 6
  %record = getelementptr i8, ptr %launches, i64 %at
  %end_at = getelementptr i8, ptr %record, i64 40
  %end = load i64, ptr %end_at
  %now = load atomic i64, ptr %completed acquire, align 8
  %progress = sub i64 %now, %base
  %finished = icmp uge i64 %progress, %end
  br i1 %finished, label %next, label %order
order:
  %after_at = getelementptr i8, ptr %record, i64 32
  %after = load i64, ptr %after_at
  %early = icmp ult i64 %progress, %after
  br i1 %early, label %wait, label %work
wait:
  %target = add i64 %base, %after
  call void @wait_completed(ptr %pool, i64 %target)
  br label %work
work:
  %function = load ptr, ptr %record
  %slots_at = getelementptr i8, ptr %record, i64 8
  %slots = load ptr, ptr %slots_at
  %programs_at = getelementptr i8, ptr %record, i64 16
  %programs = load i64, ptr %programs_at
  %chunk_at = getelementptr i8, ptr %record, i64 24
  %chunk = load i64, ptr %chunk_at
  %i32 = trunc i64 %i to i32
  %seq = add i32 %first, %i32
  br label %victim
victim:
  %k = phi i64 [ 0, %work ], [ %k_next, %victim_next ]
  %mine = phi i64 [ 0, %work ], [ %mine_now, %victim_next ]
  %sum = add i64 %me, %k
  %over = icmp uge i64 %sum, %threads
  %wrapped = sub i64 %sum, %threads
  %v = select i1 %over, i64 %wrapped, i64 %sum
  %v1 = add i64 %v, 1
  %b0 = mul i64 %programs, %v
  %b = udiv i64 %b0, %threads
  %e0 = mul i64 %programs, %v1
  %e = udiv i64 %e0, %threads
  br label %claim_loop
claim_loop:
  %mine_now = phi i64 [ %mine, %victim ], [ %mine_more, %run ]
  %range = call i64 @claim(ptr %pool, i64 %v, i32 %seq, i64 %b, i64 %e, i64 %chunk)
  %none = icmp eq i64 %range, -1
  br i1 %none, label %victim_next, label %run
run:
  %from = lshr i64 %range, 32
  %to = and i64 %range, 4294967295
  call void %function(ptr %slots, i64 %from, i64 %to)
  %ran = sub i64 %to, %from
  %mine_more = add i64 %mine_now, %ran
  br label %claim_loop
victim_next:
  %k_next = add i64 %k, 1
  %another = icmp ult i64 %k_next, %threads
  br i1 %another, label %victim, label %report
report:
  %idle = icmp eq i64 %mine_now, 0
  br i1 %idle, label %next, label %publish
publish:
  %c0 = atomicrmw add ptr %completed, i64 %mine_now seq_cst
  %asleep = load atomic i32, ptr %waiters seq_cst, align 4
  %someone = icmp ne i32 %asleep, 0
  br i1 %someone, label %wake, label %next
wake:
  call void @futex_wake_all(ptr %completed)
  br label %next
next:
  %i_next = add i64 %i, 1
  br label %launch
done:
  ret void
}

; Body of a worker thread: waits for jobs and helps with them until shutdown.
define void @zellige_pool_worker(ptr %pool, i64 %me) {
entry:
  %closed_at = getelementptr i8, ptr %pool, i64 4
  %active = getelementptr i8, ptr %pool, i64 8
  %sleepers = getelementptr i8, ptr %pool, i64 12
  %shutdown_at = getelementptr i8, ptr %pool, i64 36
  %spin_at = getelementptr i8, ptr %pool, i64 44
  br label %idle
idle:
  %last = phi i32 [ 0, %entry ], [ %epoch, %leave ]
  %spin = load i32, ptr %spin_at
  br label %look
look:
  %i = phi i32 [ 0, %idle ], [ %i_next, %linger ]
  %e = load atomic i32, ptr %pool acquire, align 4
  %fresh = icmp ne i32 %e, %last
  br i1 %fresh, label %found, label %again
again:
  %tired = icmp ugt i32 %i, %spin
  br i1 %tired, label %sleep, label %linger
linger:
  %spent = call i32 @idle(i32 %i, i32 %spin)
  %i_next = add i32 %i, %spent
  br label %look
sleep:
  %s0 = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %sleep_look
sleep_look:
  %e2 = load atomic i32, ptr %pool seq_cst, align 4
  %fresh2 = icmp ne i32 %e2, %last
  br i1 %fresh2, label %awake, label %wait
wait:
  call void @futex_wait(ptr %pool, i32 %last)
  br label %sleep_look
awake:
  %s1 = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %found
found:
  %epoch = phi i32 [ %e, %look ], [ %e2, %awake ]
  %stop = load atomic i32, ptr %shutdown_at acquire, align 4
  %stopping = icmp ne i32 %stop, 0
  br i1 %stopping, label %done, label %join
join:
  %a0 = atomicrmw add ptr %active, i32 1 seq_cst
  %closed = load atomic i32, ptr %closed_at seq_cst, align 4
  %late = icmp ne i32 %closed, 0
  br i1 %late, label %leave, label %help
help:
  call void @participate(ptr %pool, i64 %me)
  br label %leave
leave:
  %a1 = atomicrmw sub ptr %active, i32 1 seq_cst
  br label %idle
done:
  ret void
}

; Runs %count launches in order on the pool; the caller is worker 0. Returns when every program has completed.
define void @zellige_pool_replay(ptr %pool, ptr %launches, i64 %count, i64 %total) {
entry:
  %closed_at = getelementptr i8, ptr %pool, i64 4
  %active = getelementptr i8, ptr %pool, i64 8
  %sleepers = getelementptr i8, ptr %pool, i64 12
  %launches_at = getelementptr i8, ptr %pool, i64 16
  %count_at = getelementptr i8, ptr %pool, i64 24
  %first_at = getelementptr i8, ptr %pool, i64 32
  %base_at = getelementptr i8, ptr %pool, i64 48
  %completed = getelementptr i8, ptr %pool, i64 64
  br label %quiet
quiet:                                    ; a straggler of the job before may still be reading its launches
  %inside = load atomic i32, ptr %active seq_cst, align 4
  %busy = icmp ne i32 %inside, 0
  br i1 %busy, label %pause, label %open
pause:
  %yielded = call i32 @sched_yield()
  br label %quiet
open:                                     ; nobody claims with the old sequence numbers any more
  %first_old = load i32, ptr %first_at
  %count_old = load i64, ptr %count_at
  %count_old32 = trunc i64 %count_old to i32
  %first = add i32 %first_old, %count_old32
  store i32 %first, ptr %first_at
  %base = load atomic i64, ptr %completed acquire, align 8
  store i64 %base, ptr %base_at
  store ptr %launches, ptr %launches_at
  store i64 %count, ptr %count_at
  store atomic i32 0, ptr %closed_at seq_cst, align 4
  %e0 = atomicrmw add ptr %pool, i32 1 seq_cst
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %someone = icmp ne i32 %asleep, 0
  br i1 %someone, label %wake, label %help
wake:
  call void @futex_wake_all(ptr %pool)
  br label %help
help:
  call void @participate(ptr %pool, i64 0)
  %target = add i64 %base, %total
  call void @wait_completed(ptr %pool, i64 %target)
  store atomic i32 1, ptr %closed_at seq_cst, align 4
  ret void
}

; Tells the workers to return.
define void @zellige_pool_shutdown(ptr %pool) {
  %shutdown_at = getelementptr i8, ptr %pool, i64 36
  store atomic i32 1, ptr %shutdown_at seq_cst, align 4
  %e0 = atomicrmw add ptr %pool, i32 1 seq_cst
  call void @futex_wake_all(ptr %pool)
  ret void
}
