#include "memory.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>

#ifdef __unix__
#include <pthread.h>
#include <sys/mman.h>
#endif

namespace truffle {
namespace {

constexpr size_t PAGE = 4096, HUGE_PAGE = size_t{2} << 20;

struct OutOfMemory : std::bad_alloc {
    std::string message;
    explicit OutOfMemory(size_t bytes)
        : message("no memory for a block of " + std::to_string(bytes) + " bytes: " + strerror(errno)) {}
    const char* what() const noexcept override { return message.c_str(); }
};

#ifdef __unix__
// Null when the system has no such block. What was mapped beyond it for the sake of alignment goes back.
char* map(size_t bytes) {
    size_t room = bytes + HUGE_PAGE;
    if (room < bytes) return errno = ENOMEM, nullptr;
    void* mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    char* first = static_cast<char*>(mapped);
    size_t ahead = -reinterpret_cast<uintptr_t>(first) % HUGE_PAGE;
    if (ahead) munmap(first, ahead);
    munmap(first + ahead + bytes, HUGE_PAGE - ahead);
#ifdef MADV_HUGEPAGE
    madvise(first + ahead, bytes, MADV_HUGEPAGE);
#endif
    return first + ahead;
}

void unmap(void* block, size_t bytes) { munmap(block, bytes); }
#else
char* map(size_t bytes) { return static_cast<char*>(::operator new(bytes, std::align_val_t{HUGE_PAGE}, std::nothrow)); }
void unmap(void* block, size_t) { ::operator delete(block, std::align_val_t{HUGE_PAGE}); }
#endif

void touch(char* block, size_t bytes, Threads threads) {
    size_t pages = (bytes + HUGE_PAGE - 1) / HUGE_PAGE;
    size_t shares = std::min<size_t>(threads.count, pages);
    parallel(threads, shares, [=](int64_t share) {
        size_t first = pages * share / shares * HUGE_PAGE, end = pages * (share + 1) / shares * HUGE_PAGE;
        for (size_t at = first; at < std::min(end, bytes); at += PAGE) *const_cast<volatile char*>(block + at) = 0;
    });
}

class Pool {
  public:
    std::mutex turns;

    // A kept block that is not much too large, or null.
    void* take(size_t bytes) {
        std::lock_guard turn(turns);
        auto found = kept_.lower_bound(bytes);
        if (found == kept_.end() || found->first > bytes + bytes / 4) return nullptr;
        auto [size, block] = *found;
        taken_.emplace(block, size);
        kept_.erase(found);
        use_.kept -= size;
        count(size);
        return block;
    }

    void* take_new(size_t bytes) {
        char* block = map(bytes);
        if (!block && release()) block = map(bytes);
        if (!block) throw OutOfMemory(bytes);
        std::lock_guard turn(turns);
        taken_.emplace(block, bytes);
        count(bytes);
        shrink(most_);
        return block;
    }

    void give(void* block) {
        std::lock_guard turn(turns);
        auto found = taken_.find(block);
        size_t size = found->second;
        taken_.erase(found);
        use_.used -= size;
        try {
            kept_.emplace(size, block);
            use_.kept += size;
        } catch (const std::bad_alloc&) {
            unmap(block, size);
        }
    }

    size_t release() {
        std::lock_guard turn(turns);
        size_t before = use_.kept;
        shrink(0);
        most_ = use_.used;
        return before - use_.kept;
    }

    MemoryUse use() {
        std::lock_guard turn(turns);
        return use_;
    }

  private:
    void count(size_t size) {
        use_.used += size;
        most_ = std::max(most_, use_.used);
    }

    // Unmaps kept blocks, the smallest first, until taken and kept ones are at most `bytes` or none is kept.
    void shrink(size_t bytes) {
        while (!kept_.empty() && use_.used + use_.kept > bytes) {
            auto [size, block] = *kept_.begin();
            kept_.erase(kept_.begin());
            unmap(block, size);
            use_.kept -= size;
        }
    }

    std::multimap<size_t, void*> kept_;
    std::unordered_map<void*, size_t> taken_;
    MemoryUse use_{0, 0};
    size_t most_ = 0;
};

// Never destroyed: tensors may die after static destructors. A fork waits for the lock, so that the child's copy of
// the pool is whole.
Pool& pool() {
    static Pool* const made = new Pool;
#ifdef __unix__
    static const int registered = pthread_atfork([] { made->turns.lock(); }, [] { made->turns.unlock(); },
                                                 [] { made->turns.unlock(); });
    (void)registered;
#endif
    return *made;
}

}  // namespace

void* take_block(size_t bytes, Threads threads) {
    bytes = (bytes + PAGE - 1) / PAGE * PAGE;
    if (void* block = pool().take(bytes)) return block;
    void* block = pool().take_new(bytes);
    touch(static_cast<char*>(block), bytes, threads);
    return block;
}

void give_block(void* block) noexcept { pool().give(block); }

size_t release_memory() { return pool().release(); }

MemoryUse memory_use() { return pool().use(); }

}  // namespace truffle
