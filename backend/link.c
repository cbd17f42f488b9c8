/* Linking in process. The linker wants files by name: inputs are memory files
 * named through /proc/self/fd, the output a pipe (it would replace a regular
 * file by a new one, but writes into a pipe) that a thread empties. */
#include "backend/link.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/elf_object.h"
#include "backend/elf_patch.h"
#include "backend/lld.h"
#include "backend/output.h"

/* The linker keeps its state in globals, and a crash inside it cannot be
 * undone. Hence the only mutable state of the compiler that outlives a
 * compilation. */
static pthread_mutex_t linker_lock = PTHREAD_MUTEX_INITIALIZER;
static bool linker_is_broken; /* guarded by linker_lock */

/* Puts the weights above everything else. Without a section .bss the linker
 * would not know the place: see own_object. */
static const char weights_script[] =
    "SECTIONS { " WEIGHTS_SECTION " : { *(" WEIGHTS_SECTION
    ") } } INSERT AFTER .bss;\n";

void link_image_dispose(link_image_t *image) {
  free(image->data);
  *image = (link_image_t){0};
}

/* ---- Memory files -------------------------------------------------------- */

typedef struct memory_file {
  int fd;
  const char *name; /* for messages */
  char path[32];    /* "/proc/self/fd/N" */
} memory_file_t;

/* Zero, or errno. */
static int make_memory_file(memory_file_t *file, const char *name,
                            const void *data, size_t size) {
  *file =
      (memory_file_t){.fd = memfd_create("moec", MFD_CLOEXEC), .name = name};
  if (file->fd < 0) return errno;
  const char *at = data;
  while (size > 0) {
    ssize_t n = write(file->fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    at += n;
    size -= (size_t)n;
  }
  snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->fd);
  return 0;
}

/* ---- The output pipe ----------------------------------------------------- */

typedef struct drain {
  int read_fd, write_fd; /* -1: closed */
  pthread_t thread;
  uint8_t *data; /* malloc'd */
  size_t size, room;
  int error; /* errno of the thread */
} drain_t;

/* Makes room for more; false when there is no memory for it. */
static bool drain_grow(drain_t *drain) {
  if (drain->size < drain->room) return true;
  const size_t room = drain->room == 0 ? (size_t)1 << 16 : 2 * drain->room;
  uint8_t *data = realloc(drain->data, room);
  if (data == NULL) return false;
  drain->data = data;
  drain->room = room;
  return true;
}

/* Reads to the end whatever happens: the writer waits for it. */
static void *drain_main(void *user) {
  drain_t *drain = user;
  uint8_t scrap[4096];
  for (;;) {
    if (drain->error == 0 && !drain_grow(drain)) drain->error = ENOMEM;
    const bool keep = drain->error == 0;
    ssize_t n = keep ? read(drain->read_fd, drain->data + drain->size,
                            drain->room - drain->size)
                     : read(drain->read_fd, scrap, sizeof scrap);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) drain->error = errno;
    if (n <= 0) return NULL;
    if (keep) drain->size += (size_t)n;
  }
}

/* Zero, or errno. */
static int drain_start(drain_t *drain) {
  int fds[2];
  *drain = (drain_t){.read_fd = -1, .write_fd = -1};
  if (pipe2(fds, O_CLOEXEC) != 0) return errno;
  drain->read_fd = fds[0];
  drain->write_fd = fds[1];
  /* Signals are for the application's threads. */
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int error = pthread_create(&drain->thread, NULL, drain_main, drain);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (error != 0) {
    close(fds[0]);
    close(fds[1]);
  }
  return error;
}

/* Waits for the end of the output. */
static int drain_finish(drain_t *drain) {
  close(drain->write_fd); /* the last writer: the thread sees the end */
  pthread_join(drain->thread, NULL);
  close(drain->read_fd);
  return drain->error;
}

/* ---- The command --------------------------------------------------------- */

enum { MAX_OPTIONS = 40 };

typedef struct command {
  memory_file_t *files; /* objects, libraries, own object, two scripts */
  unsigned n_files;
  const char **argv;
  int argc;
} command_t;

static void add_argument(command_t *command, const char *argument) {
  command->argv[command->argc++] = argument;
}

static bool is_identifier(const char *name) {
  if (name[0] >= '0' && name[0] <= '9') return false;
  for (const char *at = name; *at != '\0'; at++)
    if (!((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
          (*at >= '0' && *at <= '9') || *at == '_'))
      return false;
  return name[0] != '\0';
}

static const char *export_name(const link_input_t *in) {
  return in->export_name != NULL ? in->export_name : in->entry;
}

static void add_options(command_t *command, const link_input_t *in,
                        arena_t *arena) {
  static const char *const fixed[] = {
      "ld.lld",
      "-shared",
      "--no-undefined",
      "--gc-sections",
      "--as-needed",
      "--hash-style=gnu",
      "--build-id=sha1",
      "--eh-frame-hdr",
      "--threads=1",
      "--color-diagnostics=never",
      "-znow",
      "-zrelro",
      "-znoexecstack",
      "-nostdlib",
      "--no-dependent-libraries",
      "--undefined",
      WEIGHTS_SYMBOL /* or it is garbage where unused */};
  for (unsigned i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
    add_argument(command, fixed[i]);
  if (!in->debug) add_argument(command, "--strip-debug");
  if (in->strip) add_argument(command, "--strip-all");
  if (in->soname != NULL)
    add_argument(command, arena_printf(arena, "--soname=%s", in->soname));
  if (strcmp(export_name(in), in->entry) != 0)
    add_argument(command, arena_printf(arena, "--defsym=%s=%s", export_name(in),
                                       in->entry));
}

/* The object that holds the place of the weights, the notes, and the .bss that
 * weights_script needs. */
static link_file_t own_object(const link_input_t *in, arena_t *arena) {
  text_t notes;
  text_init(&notes, arena);
  note_encode(in->notes, in->n_notes, &notes);
  static const uint8_t place[WEIGHTS_ALIGN];
  const elf_section_t sections[] = {
      {WEIGHTS_SECTION, SHT_PROGBITS, SHF_ALLOC, WEIGHTS_PAGE, place,
       sizeof place},
      {".bss", SHT_NOBITS, SHF_ALLOC | SHF_WRITE, 1, NULL, 0},
      {NOTE_SECTION, SHT_NOTE, 0, 4, notes.data, notes.length}};
  const elf_symbol_t symbol = {
      .name = WEIGHTS_SYMBOL, .size = sizeof place, .visibility = STV_HIDDEN};
  Elf64_Ehdr like;
  MOEC_ASSERT(in->objects[0].size >= sizeof like);
  memcpy(&like, in->objects[0].data, sizeof like);
  elf_object_t object = {.machine = like.e_machine,
                         .flags = like.e_flags,
                         .sections = sections,
                         .n_sections = in->n_notes > 0 ? 3 : 2,
                         .symbols = &symbol,
                         .n_symbols = 1};
  uint8_t *data;
  size_t size;
  elf_object_write(&object, arena, &data, &size);
  return (link_file_t){"weights", data, size};
}

/* Everything that allocates in the arena happens here, before there is anything
 * to release. The files' descriptors are made by open_files. */
static link_file_t *prepare(const link_input_t *in, arena_t *arena,
                            command_t *command) {
  const unsigned n_inputs = in->n_objects + in->n_libraries + 1;
  command->n_files = n_inputs + 2;
  command->files = ARENA_ARRAY(arena, memory_file_t, command->n_files);
  for (unsigned i = 0; i < command->n_files; i++) command->files[i].fd = -1;
  command->argv =
      ARENA_ARRAY(arena, const char *, command->n_files + MAX_OPTIONS);
  link_file_t *files = ARENA_ARRAY(arena, link_file_t, command->n_files);
  unsigned n = 0;
  for (unsigned i = 0; i < in->n_objects; i++) files[n++] = in->objects[i];
  files[n++] = own_object(in, arena);
  for (unsigned i = 0; i < in->n_libraries; i++) files[n++] = in->libraries[i];
  const char *exports =
      arena_printf(arena, "{ global: %s; local: *; };\n", export_name(in));
  files[n++] = (link_file_t){"exports", exports, strlen(exports)};
  files[n++] = (link_file_t){"weights script", weights_script,
                             sizeof weights_script - 1};
  add_options(command, in, arena);
  return files;
}

static void close_files(command_t *command) {
  for (unsigned i = 0; i < command->n_files; i++)
    if (command->files[i].fd >= 0) close(command->files[i].fd);
}

/* Zero, or errno. */
static int open_files(command_t *command, const link_file_t *files) {
  const unsigned n_inputs = command->n_files - 2;
  for (unsigned i = 0; i < command->n_files; i++) {
    int error = make_memory_file(&command->files[i], files[i].name,
                                 files[i].data, files[i].size);
    if (error != 0) return error;
    if (i == n_inputs)
      add_argument(command, "--version-script");
    else if (i == n_inputs + 1)
      add_argument(command, "--script");
    add_argument(command, command->files[i].path);
  }
  return 0;
}

/* ---- Reporting ----------------------------------------------------------- */

/* Copies a line, with the memory files' paths replaced by their names. */
static char *readable_line(const command_t *command, const char *line,
                           size_t length, arena_t *arena) {
  static const char prefix[] = "/proc/self/fd/";
  text_t out;
  text_init(&out, arena);
  for (size_t i = 0; i < length;) {
    const char *name = NULL;
    size_t skip = 0;
    if (length - i >= sizeof prefix - 1 &&
        memcmp(line + i, prefix, sizeof prefix - 1) == 0) {
      int fd = 0;
      skip = sizeof prefix - 1;
      while (i + skip < length && line[i + skip] >= '0' &&
             line[i + skip] <= '9' && fd < 100000000)
        fd = 10 * fd + (line[i + skip++] - '0');
      for (unsigned f = 0; f < command->n_files && name == NULL; f++)
        if (command->files[f].fd == fd) name = command->files[f].name;
    }
    if (name != NULL) {
      text_append(&out, name, strlen(name));
      i += skip;
    } else {
      text_append(&out, line + i++, 1);
    }
  }
  return out.data;
}

/* The first line as an error or warning, the others as its notes. */
static moec_status_t report(const command_t *command, const char *text,
                            bool failed, arena_t *arena, diag_sink_t *diag) {
  const ir_loc_t nowhere = {0};
  bool first = true;
  for (const char *line = text; *line != '\0';) {
    const size_t length = strcspn(line, "\n");
    static const char prefix[] = "ld.lld: ";
    const size_t skip =
        strncmp(line, prefix, sizeof prefix - 1) == 0 ? sizeof prefix - 1 : 0;
    const char *words =
        readable_line(command, line + skip, length - skip, arena);
    if (first && failed)
      (void)diag_error(diag, nowhere, MOEC_E_CODEGEN, "linking failed: %s",
                       words);
    else if (first)
      diag_warning(diag, nowhere, "linking: %s", words);
    else if (length > 0)
      diag_note(diag, nowhere, "%s", words);
    first = false;
    line += length + (line[length] != '\0');
  }
  if (!failed) return MOEC_OK;
  if (first)
    return diag_error(diag, nowhere, MOEC_E_CODEGEN,
                      "linking failed without a message");
  return MOEC_E_CODEGEN;
}

/* ---- Linking ------------------------------------------------------------- */

/* What happened, before any of it is reported. */
typedef struct outcome {
  int error;   /* errno of our own preparations */
  bool broken; /* the linker cannot be used (any more) */
  int code;    /* its exit code */
  char *text;  /* malloc'd */
  drain_t drain;
} outcome_t;

static void run_linker(command_t *command, outcome_t *outcome) {
  char output[32];
  outcome->error = drain_start(&outcome->drain);
  if (outcome->error != 0) return;
  snprintf(output, sizeof output, "/proc/self/fd/%d", outcome->drain.write_fd);
  add_argument(command, "-o");
  add_argument(command, output);
  pthread_mutex_lock(&linker_lock);
  outcome->broken = linker_is_broken;
  if (!outcome->broken) {
    lld_result_t result = lld_run(command->argc, command->argv);
    linker_is_broken = !result.can_run_again;
    outcome->broken = linker_is_broken && result.code == 0;
    outcome->code = result.code;
    outcome->text = result.text;
    if (result.text == NULL) outcome->error = ENOMEM;
  }
  pthread_mutex_unlock(&linker_lock);
  int error = drain_finish(&outcome->drain);
  if (outcome->error == 0) outcome->error = error;
}

/* Reports and, where that succeeds, keeps the image. */
static moec_status_t conclude(const command_t *command,
                              const outcome_t *outcome, arena_t *arena,
                              diag_sink_t *diag) {
  const ir_loc_t nowhere = {0};
  if (outcome->broken)
    return diag_error(diag, nowhere, MOEC_E_INTERNAL,
                      "the linker crashed in this process; restart it");
  if (outcome->error != 0)
    return diag_error(diag, nowhere,
                      outcome->error == ENOMEM ? MOEC_E_NO_MEMORY : MOEC_E_IO,
                      "cannot prepare linking: %s", strerror(outcome->error));
  MOEC_TRY(report(command, outcome->text, outcome->code != 0, arena, diag));
  if (outcome->drain.size == 0)
    return diag_error(diag, nowhere, MOEC_E_CODEGEN,
                      "linking failed: the linker wrote nothing");
  return MOEC_OK;
}

moec_status_t link_shared(const link_input_t *in, arena_t *arena,
                          diag_sink_t *diag, link_image_t *out_image) {
  *out_image = (link_image_t){0};
  MOEC_ASSERT(in->n_objects > 0 && is_identifier(in->entry));
  if (!is_identifier(export_name(in)))
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_USAGE,
                      "entry name '%s' is not a C identifier", export_name(in));
  command_t command = {0};
  const link_file_t *files = prepare(in, arena, &command);
  outcome_t outcome = {0};
  outcome.error = open_files(&command, files);
  if (outcome.error == 0) run_linker(&command, &outcome);
  close_files(&command);

  /* Reporting may leave through the recovery point, which must not leak: the
   * image waits in the caller's hands. */
  *out_image = (link_image_t){outcome.drain.data, outcome.drain.size};
  moec_status_t status = conclude(&command, &outcome, arena, diag);
  free(outcome.text);
  if (status != MOEC_OK) link_image_dispose(out_image);
  return status;
}

/* ---- The whole file ------------------------------------------------------ */

typedef struct packer {
  output_t output;
  uint64_t base; /* offset of the weights in the file */
  diag_sink_t *diag;
} packer_t;

static moec_status_t write_weights(void *user, uint64_t offset,
                                   const void *data, size_t size) {
  packer_t *packer = user;
  return output_write(&packer->output, packer->base + offset, data, size,
                      packer->diag);
}

typedef struct library {
  const link_input_t *in;
  const weights_t *weights;
  const char *path;
  arena_t *arena;
  diag_sink_t *diag;
  link_image_t image;
  packer_t packer;
} library_t;

static moec_status_t make_library(void *user) {
  library_t *l = user;
  link_image_t *image = &l->image;
  packer_t *packer = &l->packer;
  const uint64_t bytes = weights_bytes(l->weights);
  uint64_t digest;
  MOEC_TRY(link_shared(l->in, l->arena, l->diag, image));
  MOEC_TRY(elf_extend_weights(image->data, image->size, bytes, &packer->base,
                              l->diag));
  MOEC_TRY(output_open(&packer->output, l->path, true, l->diag));
  MOEC_TRY(weights_write(l->weights, write_weights, packer, &digest));
  elf_mix_build_id(image->data, image->size, digest);
  MOEC_TRY(output_write(&packer->output, 0, image->data, image->size, l->diag));
  MOEC_TRY(output_set_size(&packer->output, packer->base + bytes, l->diag));
  return output_commit(&packer->output, l->diag);
}

static void dispose_library(void *user) {
  library_t *l = user;
  output_discard(&l->packer.output); /* nothing is left of it after a commit */
  link_image_dispose(&l->image);
}

moec_status_t link_library(const link_input_t *in, const weights_t *weights,
                           const char *path, arena_t *arena,
                           diag_sink_t *diag) {
  library_t library = {.in = in,
                       .weights = weights,
                       .path = path,
                       .arena = arena,
                       .diag = diag,
                       .packer = {.diag = diag}};
  return recovery_cleanup(make_library, dispose_library, &library);
}
