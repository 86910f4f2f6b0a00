#include "team.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
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

enum State : int { parked, called, working };

struct alignas(64) Worker {
    std::atomic<int> state{parked};
    Job* job = nullptr;
    const size_t place;  // in the team; the caller's is 0
    bool pinned = false;

    explicit Worker(size_t place) : place(place) {}

    void live() {
        name_thread("truffle-" + std::to_string(place));
        for (;;) {
            state.wait(parked);
            int expected = called;
            if (!state.compare_exchange_strong(expected, working)) continue;
            if (job->pinned != pinned) move(job->pinned);
            job->work();
            state.store(parked);
            state.notify_one();
        }
    }

    void move(bool to_a_core) {
        pinned = to_a_core;
        to_a_core ? stay_on_core(place) : run_anywhere();
    }

    void call(Job& work) {
        job = &work;
        state.store(called);
        state.notify_one();
    }

    // Takes the call back from a worker that has not answered, so that nobody waits for a thread without a core.
    void dismiss() {
        int seen = called;
        if (state.compare_exchange_strong(seen, parked)) return;
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
