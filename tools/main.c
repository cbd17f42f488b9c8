/* The program moec. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/cli.h"

/* Large files are mapped. Where one is shortened meanwhile its pages are gone,
 * and there is nothing to go on with; files being written have no names yet. A
 * library must not do this to its process, a program may. */
static void end_without_file(int signal) {
  static const char text[] =
      "moec: error: the model or its data was shortened while it was being "
      "read\n";
  (void)signal;
  ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
  (void)written;
  _exit(status_exit_code(MOEC_E_IO));
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = end_without_file};
  sigaction(SIGBUS, &action, NULL);
  return cli_main(argc, argv, getenv, stdout, stderr);
}
