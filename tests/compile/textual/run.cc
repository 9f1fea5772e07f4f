#include "run.h"

#include <ucontext.h>

#include <vector>

static std::vector<ucontext_t> contexts;
static std::vector<std::vector<char>> stacks;
static std::vector<Place> places;
static std::vector<bool> ended;
static ucontext_t back;
static size_t current, left;
static void (*the_body)(void*);
static void* the_data;

const Place& here() { return places[current]; }

static void next() {
  do {
    current = (current + 1) % contexts.size();
  } while (ended[current]);
}

void run_others() {
  size_t from = current;
  next();
  if (current != from) swapcontext(&contexts[from], &contexts[current]);
}

static void begin() {
  the_body(the_data);
  ended[current] = true;
  if (--left == 0) setcontext(&back);
  next();
  setcontext(&contexts[current]);
}

static void run_group(const uint* block, const uint* threads) {
  size_t count = (size_t)threads[0] * threads[1] * threads[2];
  contexts.resize(count);
  places.resize(count);
  stacks.resize(count);
  ended.assign(count, false);
  for (size_t i = 0; i < count; i++) {
    uint x = i % threads[0], y = i / threads[0] % threads[1], z = i / threads[0] / threads[1];
    places[i] = {{block[0], block[1], block[2]}, {x, y, z}};
    stacks[i].resize(128 << 10);
    getcontext(&contexts[i]);
    contexts[i].uc_link = nullptr;
    contexts[i].uc_stack.ss_sp = stacks[i].data();
    contexts[i].uc_stack.ss_size = stacks[i].size();
    makecontext(&contexts[i], begin, 0);
  }
  current = 0;
  left = count;
  swapcontext(&back, &contexts[0]);
}

void run_grid(void (*body)(void*), void* data, const uint* grid, const uint* threads) {
  the_body = body;
  the_data = data;
  uint block[3];
  for (block[2] = 0; block[2] < grid[2]; block[2]++)
    for (block[1] = 0; block[1] < grid[1]; block[1]++)
      for (block[0] = 0; block[0] < grid[0]; block[0]++) run_group(block, threads);
}
