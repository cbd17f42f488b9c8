/* The program moec. */
#include <stdlib.h>

#include "tools/cli.h"

int main(int argc, char **argv) {
  return cli_main(argc, argv, getenv, stdout, stderr);
}
