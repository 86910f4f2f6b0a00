// Large blocks of memory for stores and tables: huge pages, spread over the threads' nodes, kept for the next request.
#pragma once

#include <cstddef>

#include "team.h"

namespace truffle {

struct MemoryUse {
    size_t used, kept;  // bytes in blocks that are taken, and in blocks that wait to be
};

// A block of at least `bytes`, aligned to 2 MiB; its contents are undefined. New pages are touched first by `threads`
// in contiguous shares, so that the system places each on the node of the thread that touched it. A block that
// was given back is taken again, without page faults, if it is at most a quarter too large. Throws a std::bad_alloc
// that says how much was asked for.
void* take_block(size_t bytes, Threads threads);

// Keeps the block for later. What is taken and kept together never exceeds the most that was taken at once.
void give_block(void* block) noexcept;

// Gives all kept blocks back to the system; returns their bytes.
size_t release_memory();

MemoryUse memory_use();

}  // namespace truffle
