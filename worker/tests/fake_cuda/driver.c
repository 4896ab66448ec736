/* A CUDA driver that has DEVICES cards of Turing and does nothing: for what a worker says before it computes. */
#include <stddef.h>
#include <string.h>

int cuInit(unsigned flags) { return flags == 0 ? 0 : 1; }
int cuDeviceGetCount(int* count) { *count = DEVICES; return 0; }
int cuDeviceGet(int* device, int index) { *device = index; return 0; }
int cuDeviceGetName(char* name, int size, int device) { (void)device; strncpy(name, "Fake T4", size); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) { (void)device; *value = attribute == 75 ? 7 : 5; return 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int device) { (void)device; *bytes = (size_t)15 << 30; return 0; }
int cuGetErrorString(int code, const char** text) { *text = code == 0 ? "no error" : "fake"; return 0; }
#define NOT_HERE(name) int name(void) { return 801; }
NOT_HERE(cuDevicePrimaryCtxRetain) NOT_HERE(cuCtxSetCurrent) NOT_HERE(cuModuleLoadData) NOT_HERE(cuModuleGetFunction)
NOT_HERE(cuLaunchKernel) NOT_HERE(cuStreamQuery)
