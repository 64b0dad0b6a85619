// SPDX-License-Identifier: Apache-2.0
// The WAGI program of the sandbox's tests.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char** environ;

int main(int argc, char** argv) {
  const char* path = getenv("PATH_INFO");
  if (strcmp(path, "/env") == 0) {
    printf("Content-Type: text/plain\n\n");
    for (char** e = environ; *e != NULL; ++e) puts(*e);
    for (int i = 0; i < argc; ++i) printf("argv[%d]=%s\n", i, argv[i]);
  } else if (strcmp(path, "/echo") == 0) {
    printf("Content-Type: application/octet-stream\r\n\r\n");
    char buffer[4096];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, stdin)) > 0) fwrite(buffer, 1, n, stdout);
  } else if (strcmp(path, "/status") == 0) {
    printf("Status: 418 I'm a teapot\nX-Kind: teapot\nContent-Type: text/plain\n\nshort and stout\n");
  } else if (strcmp(path, "/redirect") == 0) {
    printf("Location: https://example.com/\n\n");
  } else if (strcmp(path, "/garbage") == 0) {
    printf("this is not a header\n\n");
  } else if (strcmp(path, "/nothing") == 0) {
  } else if (strcmp(path, "/exit") == 0) {
    fprintf(stderr, "giving up\n");
    return 7;
  } else if (strcmp(path, "/exit-after") == 0) {
    printf("Content-Type: text/plain\n\nwritten\n");
    fflush(stdout);
    return 7;
  } else if (strcmp(path, "/trap") == 0) {
    __builtin_trap();
  } else if (strcmp(path, "/loop") == 0) {
    volatile int n = 0;
    for (;;) n++;
  } else if (strcmp(path, "/count") == 0) {
    static int calls;  // a fresh instance each time: always 1
    printf("Content-Type: text/plain\n\n%d\n", ++calls);
  } else if (strcmp(path, "/flood") == 0) {
    printf("Content-Type: text/plain\n\n");
    for (;;) puts("0123456789012345678901234567890123456789012345678901234567890123456789");
  } else {
    printf("Status: 404 Not Found\nContent-Type: text/plain\n\nno such test\n");
  }
  return 0;
}
