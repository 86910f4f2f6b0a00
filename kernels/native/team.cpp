#include "team.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "affinity.h"

namespace truffle {
namespace {

struct Job {
    void (*body)(void*, int64_t);
    void* context;
    int64_t tasks;
    bool pinned;
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr failure{};

    void work() {
        for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
            try {
                body(context, task);
            } catch (...) {
                if (!failed.exchange(true)) failure = std::current_exception();
                next.store(tasks, std::memory_order_relaxed);
            }
        }
    }
};

void name_thread(const std::string& name) {
#ifdef __linux__
    pthread_setname_np(pthread_self(), name.c_str());
#else
    (void)name;
#endif
}

enum State : int { parked, spinning, called, working };

// How long a worker looks for its next call before it parks.
std::atomic<int64_t> spin_us{0};

void relax() {
#ifdef TRUFFLE_X86
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

struct alignas(64) Worker {
    std::atomic<int> state{parked};
    Job* job = nullptr;
    const size_t place;  // in the team; the caller's is 0
    bool pinned = false;
    int found = parked;  // by the last call: parked or spinning

    explicit Worker(size_t place) : place(place) {}

    void live() {
        name_thread("truffle-" + std::to_string(place));
        for (;;) {
            if (state == spinning) {
                look_at_while(spinning);
                int unchanged = spinning;
                state.compare_exchange_strong(unchanged, parked);
            }
            state.wait(parked);
            int expected = called;
            if (!state.compare_exchange_strong(expected, working)) continue;
            if (job->pinned != pinned) move(job->pinned);
            job->work();
            state.store(spin_us.load(std::memory_order_relaxed) > 0 ? spinning : parked);
            state.notify_one();
        }
    }

    // Returns when the state is another, or after as long as workers are to spin.
    void look_at_while(State seen) const {
        using Clock = std::chrono::steady_clock;
        const auto end = Clock::now() + std::chrono::microseconds(spin_us.load(std::memory_order_relaxed));
        do {
            for (int i = 0; i < 32 && state.load(std::memory_order_acquire) == seen; ++i) relax();
        } while (state.load(std::memory_order_acquire) == seen && Clock::now() < end);
    }

    void move(bool to_a_core) {
        pinned = to_a_core;
        to_a_core ? stay_on_core(place) : run_anywhere();
    }

    void call(Job& work) {
        job = &work;
        found = state.exchange(called);
        if (found == parked) state.notify_one();
    }

    // Takes the call back from a worker that has not answered, so that nobody waits for a thread without a core.
    void dismiss() {
        int seen = called;
        if (state.compare_exchange_strong(seen, found)) return;
        if (seen == working) look_at_while(working);
        while (state.load() == working) state.wait(working);
    }
};

class Team {
  public:
    void run(int threads, Job& job) {
        std::lock_guard turn(turns_);
        grow(threads - 1);
        size_t helpers = std::min<size_t>(threads - 1, workers_.size());
        for (size_t i = 0; i < helpers; ++i) workers_[i]->call(job);
        job.work();
        for (size_t i = 0; i < helpers; ++i) workers_[i]->dismiss();
    }

  private:
    void grow(size_t wanted) {
        while (workers_.size() < wanted) {
            auto worker = std::make_unique<Worker>(workers_.size() + 1);
            try {
                std::thread(&Worker::live, worker.get()).detach();
            } catch (const std::system_error&) {
                return;  // the system gives no more threads: the ones there are do the work
            }
            workers_.push_back(std::move(worker));
        }
    }

    std::mutex turns_;
    std::vector<std::unique_ptr<Worker>> workers_;
};

// Never destroyed: its workers outlive static destructors. A forked child has no workers and perhaps a locked
// mutex, so it leaves the old team behind and makes its own.
std::atomic<Team*> the_team{nullptr};

Team& team() {
    if (Team* present = the_team.load()) return *present;
    static const int registered = pthread_atfork(nullptr, nullptr, [] { the_team.store(nullptr); });
    (void)registered;
    Team* made = new Team;
    Team* expected = nullptr;
    if (the_team.compare_exchange_strong(expected, made)) return *made;
    delete made;
    return *expected;
}

}  // namespace

void spin_before_parking(int64_t microseconds) { spin_us.store(microseconds, std::memory_order_relaxed); }

void run_tasks(Threads threads, int64_t tasks, void (*body)(void*, int64_t), void* context) {
    threads.count = static_cast<int>(std::min<int64_t>(threads.count, tasks));
    Job job{body, context, tasks, threads.pinned};
    if (threads.count <= 1)
        job.work();
    else
        team().run(threads.count, job);
    if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace truffle
