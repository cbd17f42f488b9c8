/* The fork-join pool. A region of parallel work is published in one cache line;
 * workers that see it in time join, claim chunks and leave, and the caller
 * works too. It waits for those that joined only, so that a worker that sleeps,
 * or that a fork() left behind, never holds it up.
 *
 * `gate` carries the protocol: [63:32] number of the region, then flags, then
 * how many workers are inside. A worker joins by adding 1 while OPEN is set and
 * the number is one that it has not seen; the caller clears OPEN when no chunk
 * is left and waits for the count to reach 0. The description of the region is
 * written while the gate is closed and empty, so plain fields suffice. */
#include <stdatomic.h>

#include "runtime/libc.h"
#include "runtime/runtime.h"

enum {
  CACHE_LINE = 64,
  SPIN_NANOSECONDS = 50000,
  SPINS_PER_LOOK = 64, /* at the clock */
  CHUNKS_PER_THREAD = 4
};

static const uint64_t gate_open = 1u << 31;
static const uint64_t gate_stop = 1u << 30;
static const uint64_t gate_caller_sleeps = 1u << 29;
static const uint64_t gate_inside = 0xffff; /* mask of the count */

/* Fixed for an ABI version: the instances of another library, built by another
 * version of moec, use no more of a pool than this. */
typedef struct pool_head {
  uint32_t struct_size;
  uint32_t abi_version;
  int32_t n_threads;
  int32_t reserved;
  void (*run)(rt_pool_t *pool, int64_t units, int64_t grain, moec_task_fn task,
              void *context);
} pool_head_t;

struct rt_pool {
  pool_head_t head;
  _Alignas(CACHE_LINE) _Atomic uint64_t gate;
  _Atomic uint32_t region; /* futex of idle workers: the number in the gate */
  _Atomic uint32_t sleepers;
  moec_task_fn task;
  void *context;
  int64_t units, chunk, n_chunks;

  _Alignas(CACHE_LINE) _Atomic int64_t next;  /* chunk to claim */
  _Alignas(CACHE_LINE) _Atomic uint32_t busy; /* a thread runs a region */
  _Atomic uint32_t finished; /* futex of a caller that waits: count of wakes */

  rt_allocator_t allocator;
  long pid; /* of the process that the workers live in */
  int32_t n_workers;
  libc_thread_t workers[];
};

static uint32_t region_of(uint64_t gate) { return (uint32_t)(gate >> 32); }

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
  syscall(LIBC_SYS_futex, word, LIBC_FUTEX_WAIT_PRIVATE, expected, NULL);
}

static void futex_wake(_Atomic uint32_t *word, int32_t count) {
  syscall(LIBC_SYS_futex, word, LIBC_FUTEX_WAKE_PRIVATE, count);
}

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#elif defined(__riscv)
  __asm__ volatile(".insn 0x0100000f"); /* pause; a fence to older ones */
#endif
}

int64_t clock_now(void) {
  libc_timespec_t time;
  clock_gettime(LIBC_CLOCK_MONOTONIC, &time);
  return (int64_t)time.seconds * 1000000000 + time.nanoseconds;
}

/* A spell of spinning; true while it has not lasted SPIN_NANOSECONDS. */
typedef struct spin {
  uint32_t turns;
  int64_t end; /* 0: the clock has not been looked at */
} spin_t;

static bool spin_on(spin_t *spin) {
  relax();
  if (++spin->turns % SPINS_PER_LOOK != 0) return true;
  int64_t time = clock_now();
  if (spin->end == 0) spin->end = time + SPIN_NANOSECONDS;
  return time < spin->end;
}

static bool is_news(uint64_t gate, uint32_t seen) {
  return (gate & gate_stop) != 0 || region_of(gate) != seen;
}

/* The gate once it tells of another region than `seen`, or of the end. */
static uint64_t wait_for_news(rt_pool_t *pool, uint32_t seen) {
  spin_t spin = {0};
  uint64_t gate;
  do {
    gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
    if (is_news(gate, seen)) return gate;
  } while (spin_on(&spin));
  /* Pairs with open_gate: either it sees this count and wakes, or the gate read
   * below is the new one. */
  atomic_fetch_add(&pool->sleepers, 1);
  for (;;) {
    gate = atomic_load(&pool->gate);
    if (is_news(gate, seen)) break;
    futex_wait(&pool->region, seen);
  }
  atomic_fetch_sub(&pool->sleepers, 1);
  return gate;
}

static bool join_region(rt_pool_t *pool, uint64_t gate) {
  uint32_t region = region_of(gate);
  while ((gate & gate_open) != 0 && region_of(gate) == region)
    if (atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + 1,
                                              memory_order_acquire,
                                              memory_order_relaxed))
      return true;
  return false;
}

static void leave_region(rt_pool_t *pool) {
  uint64_t before =
      atomic_fetch_sub_explicit(&pool->gate, 1, memory_order_release);
  if ((before & gate_caller_sleeps) == 0 || (before & gate_inside) != 1) return;
  atomic_fetch_add(&pool->finished, 1);
  futex_wake(&pool->finished, 1);
}

static void work_on_region(rt_pool_t *pool) {
  for (;;) {
    int64_t i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
    if (i >= pool->n_chunks) return;
    int64_t begin = i * pool->chunk;
    int64_t left = pool->units - begin;
    pool->task(pool->context, begin,
               begin + (left < pool->chunk ? left : pool->chunk));
  }
}

static void *worker_main(void *argument) {
  rt_pool_t *pool = argument;
  uint32_t seen = 0;
  for (;;) {
    uint64_t gate = wait_for_news(pool, seen);
    if ((gate & gate_stop) != 0) return NULL;
    seen = region_of(gate);
    if (!join_region(pool, gate)) continue;
    work_on_region(pool);
    leave_region(pool);
  }
}

static void open_gate(rt_pool_t *pool) {
  uint32_t region =
      region_of(atomic_load_explicit(&pool->gate, memory_order_relaxed)) + 1;
  atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
  atomic_store(&pool->gate, (uint64_t)region << 32 | gate_open);
  atomic_store(&pool->region, region);
  uint32_t sleepers = atomic_load(&pool->sleepers);
  if (sleepers == 0) return;
  int64_t wanted = pool->n_chunks - 1;
  futex_wake(&pool->region,
             wanted < sleepers ? (int32_t)wanted : (int32_t)sleepers);
}

static void close_gate(rt_pool_t *pool) {
  uint64_t gate =
      atomic_fetch_and_explicit(&pool->gate, ~gate_open, memory_order_acquire);
  spin_t spin = {0};
  while ((gate & gate_inside) != 0) {
    if (!spin_on(&spin)) break;
    gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
  }
  if ((gate & gate_inside) == 0) return;
  uint32_t finished = atomic_load(&pool->finished);
  gate = atomic_fetch_or(&pool->gate, gate_caller_sleeps);
  while ((gate & gate_inside) != 0) {
    futex_wait(&pool->finished, finished);
    gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
  }
}

static void run_region(rt_pool_t *pool, int64_t units, int64_t grain,
                       moec_task_fn task, void *context) {
  int64_t pieces = (int64_t)pool->head.n_threads * CHUNKS_PER_THREAD;
  int64_t chunk = units / pieces + (units % pieces != 0);
  if (chunk < grain) chunk = grain;
  /* Another thread at work here: its workers are taken, so do without. */
  if (chunk >= units || pool->head.n_threads == 1 ||
      atomic_exchange_explicit(&pool->busy, 1, memory_order_acquire) != 0) {
    task(context, 0, units);
    return;
  }
  pool->task = task;
  pool->context = context;
  pool->units = units;
  pool->chunk = chunk;
  pool->n_chunks = units / chunk + (units % chunk != 0);
  open_gate(pool);
  work_on_region(pool);
  close_gate(pool);
  atomic_store_explicit(&pool->busy, 0, memory_order_release);
}

void pool_run(rt_pool_t *pool, int64_t units, int64_t grain, moec_task_fn task,
              void *context) {
  if (units <= 0) return;
  pool->head.run(pool, units, grain > 0 ? grain : 1, task, context);
}

int32_t pool_threads(const rt_pool_t *pool) { return pool->head.n_threads; }

bool pool_is_compatible(const void *handle) {
  const pool_head_t *head = handle;
  return (uintptr_t)handle % _Alignof(pool_head_t) == 0 &&
         head->struct_size >= sizeof *head &&
         head->abi_version == MOEC_ABI_VERSION;
}

/* Signals of the application are for its own threads. */
static void start_workers(rt_pool_t *pool, int32_t n_workers) {
  uint64_t all = ~0ull, before = 0;
  syscall(LIBC_SYS_rt_sigprocmask, LIBC_SIG_SETMASK, &all, &before, sizeof all);
  while (pool->n_workers < n_workers &&
         pthread_create(&pool->workers[pool->n_workers], NULL, worker_main,
                        pool) == 0)
    pool->n_workers++;
  syscall(LIBC_SYS_rt_sigprocmask, LIBC_SIG_SETMASK, &before, NULL,
          sizeof before);
}

rt_pool_t *pool_create(int32_t n_threads, const rt_allocator_t *allocator) {
  if (n_threads <= 0) n_threads = cpu_count();
  if (n_threads > RT_MAX_THREADS) n_threads = RT_MAX_THREADS;
  if (pthread_create == NULL || pthread_join == NULL) n_threads = 1;
  size_t bytes =
      sizeof(rt_pool_t) + (size_t)(n_threads - 1) * sizeof(libc_thread_t);
  rt_pool_t *pool = memory_allocate(allocator, bytes);
  if (pool == NULL) return NULL;
  memset(pool, 0, bytes);
  pool->head.struct_size = sizeof *pool;
  pool->head.abi_version = MOEC_ABI_VERSION;
  pool->head.run = run_region;
  pool->allocator = *allocator;
  pool->pid = syscall(LIBC_SYS_getpid);
  if (n_threads > 1) start_workers(pool, n_threads - 1);
  pool->head.n_threads = pool->n_workers + 1;
  return pool;
}

void pool_destroy(rt_pool_t *pool) {
  if (pool == NULL) return;
  /* In the child of a fork() the workers do not exist. */
  if (pool->n_workers > 0 && pool->pid == syscall(LIBC_SYS_getpid)) {
    atomic_fetch_or(&pool->gate, gate_stop);
    atomic_fetch_add(&pool->region, 1);
    futex_wake(&pool->region, INT32_MAX);
    for (int32_t i = 0; i < pool->n_workers; i++)
      pthread_join(pool->workers[i], NULL);
  }
  rt_allocator_t allocator = pool->allocator;
  memory_release(&allocator, pool);
}

void *moert_pool_create(int32_t n_threads) {
  const rt_allocator_t allocator = {0};
  return pool_create(n_threads, &allocator);
}

void moert_pool_destroy(void *pool) { pool_destroy(pool); }
