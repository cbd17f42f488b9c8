/* Creating and destroying instances, and their threads. */
#include "runtime/libc.h"
#include "runtime/runtime.h"

static bool is_equal(const char *a, const char *b) {
  while (*a != '\0' && *a == *b) a++, b++;
  return *a == *b;
}

/* Options as this version knows them. What an older caller lacks is 0; what a
 * newer one has in addition must be 0. */
static moec_status_t read_options(const moec_options_t *from,
                                  moec_options_t *out) {
  *out = (moec_options_t){.struct_size = sizeof *out};
  if (from == NULL) return MOEC_OK;
  size_t bytes = from->struct_size;
  if (bytes < offsetof(moec_options_t, variant)) return MOEC_E_USAGE;
  for (size_t i = sizeof *out; i < bytes; i++)
    if (((const char *)from)[i] != 0) return MOEC_E_USAGE;
  memcpy(out, from, bytes < sizeof *out ? bytes : sizeof *out);
  if (out->n_threads < 0 || out->reserved != 0 ||
      (out->allocate == NULL) != (out->release == NULL))
    return MOEC_E_USAGE;
  if (out->pool != NULL && !pool_is_compatible(out->pool)) return MOEC_E_USAGE;
  return MOEC_OK;
}

static moec_status_t choose_variant(const char *name,
                                    const moert_variant_t **out_variant) {
  uint64_t features = cpu_features();
  for (uint32_t i = moert_program.n_variants; i-- > 0;) {
    const moert_variant_t *variant = &moert_program.variants[i];
    bool runs = (variant->features & ~features) == 0;
    if (name != NULL ? is_equal(name, variant->name) : runs) {
      *out_variant = variant;
      return runs ? MOEC_OK : MOEC_E_CPU;
    }
  }
  return name != NULL ? MOEC_E_USAGE : MOEC_E_CPU;
}

/* The instance and its tables are one block: `take` lays out the next table,
 * and with base NULL only counts. */
typedef struct layout {
  char *base;
  uint64_t used;
} layout_t;

static void *take(layout_t *layout, uint64_t count, size_t bytes) {
  uint64_t at = layout->used;
  layout->used += (count * bytes + 15) / 16 * 16;
  return layout->base != NULL ? layout->base + at : NULL;
}

static uint64_t sum_of_ranks(const moec_io_t *ios, uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += (uint64_t)ios[i].rank;
  return sum;
}

static uint64_t lay_out(char *base) {
  const moert_program_t *program = &moert_program;
  layout_t layout = {.base = base};
  moec_instance_t dummy;
  moec_instance_t *it = take(&layout, 1, sizeof *it);
  if (it == NULL) it = &dummy;
  moert_frame_t *frame = &it->frame;
  uint64_t n_dims = sum_of_ranks(program->outputs, program->n_outputs);

  it->inputs = take(&layout, program->n_inputs, sizeof *it->inputs);
  it->outputs = take(&layout, program->n_outputs, sizeof *it->outputs);
  it->growable = take(&layout, program->n_growable, sizeof *it->growable);
  it->bindings = take(&layout, program->n_symbols, sizeof *it->bindings);
  if (program->n_in_ports + program->n_out_ports > 0) {
    const size_t value_bytes = sizeof *it->raw_inputs;
    it->in_ports = take(&layout, program->n_in_ports, sizeof *it->in_ports);
    it->out_ports = take(&layout, program->n_out_ports, sizeof *it->out_ports);
    it->raw_inputs = take(&layout, program->n_inputs, value_bytes);
    it->raw_outputs = take(&layout, program->n_outputs, value_bytes);
  }
  frame->symbols = take(&layout, program->n_symbols, sizeof(int64_t));
  frame->inputs = take(&layout, program->n_inputs, sizeof(void *));
  frame->slot_bytes = take(&layout, program->n_slots, sizeof(int64_t));
  frame->slot_offsets = take(&layout, program->n_slots, sizeof(int64_t));
  frame->output_dims = take(&layout, n_dims, sizeof(int64_t));
  int64_t *dims = take(&layout, n_dims, sizeof(int64_t));
  for (uint32_t i = 0; base != NULL && i < program->n_outputs; i++) {
    it->outputs[i].dims = dims;
    dims += program->outputs[i].rank;
  }
  return layout.used;
}

static bool is_supported(const moec_io_t *ios, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (ios[i].kind != MOEC_TENSOR || ios[i].dtype == MOEC_STRING ||
        ios[i].rank < 0 || ios[i].rank > MOEC_MAX_RANK)
      return false;
  return true;
}

static moec_status_t start_threads(moec_instance_t *it,
                                   const moec_options_t *options) {
  it->parallel_for = options->parallel_for;
  it->parallel_user = options->parallel_user;
  it->pool = options->pool;
  if (it->parallel_for != NULL || it->pool != NULL || options->n_threads == 1)
    return MOEC_OK;
  it->pool = pool_create(options->n_threads, &it->allocator);
  it->owns_pool = true;
  return it->pool != NULL ? MOEC_OK : MOEC_E_NO_MEMORY;
}

moec_status_t moert_create(const moec_options_t *options,
                           moec_instance_t **out_instance) {
  if (out_instance == NULL) return MOEC_E_USAGE;
  *out_instance = NULL;
  const moert_program_t *program = &moert_program;
  moec_options_t own;
  const moert_variant_t *variant;
  RT_TRY(read_options(options, &own));
  RT_TRY(choose_variant(own.variant, &variant));
  if (!is_supported(program->inputs, program->n_inputs) ||
      !is_supported(program->outputs, program->n_outputs))
    return MOEC_E_UNSUPPORTED;

  const rt_allocator_t allocator = {.allocate = own.allocate,
                                    .release = own.release,
                                    .user = own.memory_user};
  uint64_t bytes = lay_out(NULL);
  char *block = memory_allocate(&allocator, bytes);
  if (block == NULL) return MOEC_E_NO_MEMORY;
  memset(block, 0, bytes);
  lay_out(block);
  moec_instance_t *it = (void *)block;
  it->allocator = allocator;
  it->variant = variant;
  it->fixed_memory = own.fixed_memory != 0;
  it->frame.kernels = variant->kernels;
  it->frame.weights = program->weights;
  it->frame.instance = it;
  it->frame.node = -1;
  moec_status_t status = start_threads(it, &own);
  if (status != MOEC_OK) {
    moert_destroy(it);
    return status;
  }
  *out_instance = it;
  return MOEC_OK;
}

void moert_destroy(moec_instance_t *it) {
  if (it == NULL) return;
  const rt_allocator_t allocator = it->allocator;
  if (it->owns_pool) pool_destroy(it->pool);
  for (uint32_t i = 0; i < moert_program.n_inputs; i++)
    memory_release(&allocator, it->inputs[i].copy.data);
  for (uint32_t i = 0; i < moert_program.n_outputs; i++)
    memory_release(&allocator, it->outputs[i].own.data);
  for (uint32_t i = 0; i < moert_program.n_in_ports; i++)
    memory_release(&allocator, it->in_ports[i].memory.data);
  for (uint32_t i = 0; i < moert_program.n_out_ports; i++)
    memory_release(&allocator, it->out_ports[i].memory.data);
  for (uint32_t i = 0; i < moert_program.n_growable; i++)
    memory_release(&allocator, it->growable[i].data);
  memory_release(&allocator, it->workspace.data);
  memory_release(&allocator, it->trace);
  memory_release(&allocator, it);
}

const char *moert_message(const moec_instance_t *it) {
  return it != NULL ? it->message : "";
}

const char *moert_variant(const moec_instance_t *it) {
  return it != NULL ? it->variant->name : "";
}

/* The application splits [0, chunks); a chunk is `grain` units. */
typedef struct chunked_task {
  moec_task_fn task;
  void *context;
  int64_t units, grain;
} chunked_task_t;

static void run_chunks(void *context, int64_t begin, int64_t end) {
  const chunked_task_t *chunked = context;
  int64_t from = begin * chunked->grain;
  int64_t left = chunked->units - from;
  /* The last chunk may be short, and its end beyond what an i64 holds. */
  int64_t count = end - begin > left / chunked->grain
                      ? left
                      : (end - begin) * chunked->grain;
  if (count > 0) chunked->task(chunked->context, from, from + count);
}

void instance_parallel(moec_instance_t *it, int64_t units, int64_t grain,
                       moec_task_fn task, void *context) {
  if (units <= 0) return;
  if (grain <= 0) grain = 1;
  if (units <= grain) {
    task(context, 0, units);
  } else if (it->parallel_for != NULL) {
    chunked_task_t chunked = {
        .task = task, .context = context, .units = units, .grain = grain};
    it->parallel_for(it->parallel_user, units / grain + (units % grain != 0),
                     run_chunks, &chunked);
  } else if (it->pool != NULL) {
    pool_run(it->pool, units, grain, task, context);
  } else {
    task(context, 0, units);
  }
}

typedef struct launch {
  moert_kernel_fn kernel;
  const moert_arg_t *args;
} launch_t;

static void run_kernel(void *context, int64_t begin, int64_t end) {
  const launch_t *launch = context;
  launch->kernel(launch->args, begin, end);
}

void moert_parallel(moert_frame_t *frame, uint32_t kernel,
                    const moert_arg_t *args, int64_t units, int64_t grain) {
  launch_t launch = {.kernel = frame->kernels[kernel], .args = args};
  instance_parallel(frame->instance, units, grain, run_kernel, &launch);
}
