// Gloo's all-reduce, from inside libtorch_cpu, behind a C interface.
//
// Every function that can fail gives null on success, else a message to be freed with polya_gloo_free. No exception
// leaves this file. A group is used by one thread; polya_gloo_abort may come from any.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Hands bytes (or the text of an error) to the caller of a store function.
typedef void (*polya_gloo_sink)(void* sink, const uint8_t* data, size_t size);

// The rendezvous, answered by the caller. Each gives 0 on success; else an error whose text went to `error`.
typedef struct {
  void* context;
  int32_t (*set)(void* context, const char* key, size_t key_size, const uint8_t* value, size_t value_size,
                 polya_gloo_sink take, void* error);
  // Waits until the key is there, at most `wait_ms`. The value goes to `value`.
  int32_t (*get)(void* context, const char* key, size_t key_size, uint64_t wait_ms, polya_gloo_sink take, void* value,
                 void* error);
  int32_t (*add)(void* context, const char* key, size_t key_size, int64_t amount, int64_t* sum, polya_gloo_sink take,
                 void* error);
} polya_gloo_store;

typedef struct polya_gloo_group polya_gloo_group;

// Connects a full mesh. `store` must live until this returns; `host` is the address that the others reach.
char* polya_gloo_connect(const polya_gloo_store* store, int32_t rank, int32_t world_size, const char* host,
                         uint64_t timeout_ms, polya_gloo_group** group);
// Sums `words` over all ranks in place. After an error the contents are garbage and the group is dead.
char* polya_gloo_all_reduce_i32(polya_gloo_group* group, int32_t* words, size_t count);
// The same for fp32, with which `worker bench reduce` compares.
char* polya_gloo_all_reduce_f32(polya_gloo_group* group, float* values, size_t count);
// Fails a running all-reduce and closes every connection, so that the peers fail too.
char* polya_gloo_abort(polya_gloo_group* group);
void polya_gloo_destroy(polya_gloo_group* group);
void polya_gloo_free(char* message);

#ifdef __cplusplus
}
#endif
