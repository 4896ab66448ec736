/* A small NCCL for tests: real sums of int32 between threads or processes of one machine, over a shared file, through the
 * functions that ffi/nccl.rs binds. Non-blocking as the real one: calls start, ncclCommGetAsyncError says when they are over.
 *
 * -D makes it fail: VERSION=n, FAULT_JOIN, FAULT_REMOTE (the sum ends in an error), FAULT_SILENT (it never ends),
 * FAULT_STUCK (the call itself never returns), WITHOUT_ABORT (a function is missing). */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 22205
#endif
enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, REMOTE_ERROR = 6, IN_PROGRESS = 7 };
enum { RANKS = 8, WORDS = 1 << 21, INT32 = 2, SUM = 0 };

typedef struct {
  char path[128];
} Id;
typedef struct {
  size_t size;
  unsigned magic, version;
  int blocking;
} Config;
typedef struct {
  atomic_int joined, contributed, finished, aborted;
  int32_t words[RANKS][WORDS];
} Shared;
typedef struct {
  Shared* shared;
  int rank, ranks, reducing;
  int32_t* words;
  size_t count;
} Comm;

static Shared* map(const char* path) {
  const int file = open(path, O_RDWR);
  if (file < 0) return NULL;
  void* at = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  return at == MAP_FAILED ? NULL : at;
}

int ncclGetVersion(int* version) {
  *version = VERSION;
  return SUCCESS;
}

int ncclGetUniqueId(Id* id) {
  memset(id, 0, sizeof *id);
  strcpy(id->path, "/tmp/fake-nccl-XXXXXX");
  const int file = mkstemp(id->path);
  if (file < 0) return SYSTEM_ERROR;
  const int grown = ftruncate(file, sizeof(Shared));
  close(file);
  return grown == 0 ? SUCCESS : SYSTEM_ERROR;
}

int ncclCommInitRankConfig(Comm** comm, int ranks, Id id, int rank, Config* config) {
  const int fits = config->size == sizeof(Config) && config->magic == 0xcafebeef && config->version == 21400;
  if (!fits || config->blocking != 0 || ranks > RANKS || rank >= ranks) return INVALID_ARGUMENT;
#ifdef FAULT_JOIN
  return SYSTEM_ERROR;
#endif
  Shared* shared = map(id.path);
  if (shared == NULL) return SYSTEM_ERROR;
  *comm = calloc(1, sizeof(Comm));
  **comm = (Comm){.shared = shared, .rank = rank, .ranks = ranks};
  if (atomic_fetch_add(&shared->joined, 1) + 1 == ranks) unlink(id.path);
  return IN_PROGRESS;
}

int ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, Comm* comm, void* stream) {
  if (from != to || type != INT32 || operation != SUM || count > WORDS || stream != NULL) return INVALID_ARGUMENT;
#ifdef FAULT_STUCK
  for (;;) pause();
#endif
  comm->words = to;
  comm->count = count;
  comm->reducing = 1;
#ifndef FAULT_SILENT
  memcpy(comm->shared->words[comm->rank], from, count * sizeof(int32_t));
  atomic_fetch_add(&comm->shared->contributed, 1);
#endif
  return IN_PROGRESS;
}

int ncclCommGetAsyncError(Comm* comm, int* state) {
  Shared* shared = comm->shared;
  *state = IN_PROGRESS;
  if (atomic_load(&shared->aborted)) {
    *state = REMOTE_ERROR;
  } else if (!comm->reducing) {
    if (atomic_load(&shared->joined) == comm->ranks) *state = SUCCESS;
  } else if (comm->words == NULL) {
    *state = SUCCESS;
#ifdef FAULT_REMOTE
  } else if (atomic_load(&shared->contributed) > 0) {
    *state = REMOTE_ERROR;
#endif
  } else if (atomic_load(&shared->contributed) == comm->ranks) {
    for (size_t index = 0; index < comm->count; ++index) {
      uint32_t sum = 0;
      for (int rank = 0; rank < comm->ranks; ++rank) sum += (uint32_t)shared->words[rank][index];
      comm->words[index] = (int32_t)sum;
    }
    comm->words = NULL;
    *state = SUCCESS;
  }
  return SUCCESS;
}

int ncclCommFinalize(Comm* comm) {
  (void)comm;
  return SUCCESS;
}

static int leave(Comm* comm) {
  munmap(comm->shared, sizeof(Shared));
  free(comm);
  return SUCCESS;
}

int ncclCommDestroy(Comm* comm) { return leave(comm); }

#ifndef WITHOUT_ABORT
int ncclCommAbort(Comm* comm) {
  atomic_store(&comm->shared->aborted, 1);
  return leave(comm);
}
#endif

const char* ncclGetErrorString(int code) {
  switch (code) {
    case SYSTEM_ERROR: return "unhandled system error";
    case INVALID_ARGUMENT: return "invalid argument";
    case REMOTE_ERROR: return "remote process exited or there was a network error";
    default: return "no error";
  }
}

const char* ncclGetLastError(Comm* comm) {
  (void)comm;
  return "";
}
