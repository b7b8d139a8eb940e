// The ExecuTorch wheel's threadpool.h includes this header, but the wheel does not hold it. It needs these two names.
#pragma once
typedef struct pthreadpool *pthreadpool_t;
extern "C" void pthreadpool_destroy(pthreadpool_t threadpool);
