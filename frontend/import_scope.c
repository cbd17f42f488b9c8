/* Names: hash maps of strings, and scopes of graphs. */
#include <string.h>

#include "frontend/import_state.h"

struct name_entry {
  const char *key; /* NULL: free */
  uint64_t hash;
  void *value;
};

/* FNV-1a with a final mix: file names follow long common prefixes. */
static uint64_t hash_name(const char *key) {
  uint64_t hash = 14695981039346656037u;
  for (; *key != '\0'; key++)
    hash = (hash ^ (unsigned char)*key) * 1099511628211u;
  hash ^= hash >> 29;
  return hash * 0x9e3779b97f4a7c15u ^ hash >> 32;
}

void name_map_init(name_map_t *map, arena_t *arena) {
  *map = (name_map_t){.arena = arena};
}

static struct name_entry *find_entry(const name_map_t *map, const char *key,
                                     uint64_t hash) {
  size_t mask = map->capacity - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    struct name_entry *entry = &map->entries[i];
    if (entry->key == NULL ||
        (entry->hash == hash && strcmp(entry->key, key) == 0))
      return entry;
  }
}

static void grow(name_map_t *map) {
  struct name_entry *old = map->entries;
  size_t old_capacity = map->capacity;
  map->capacity = old_capacity == 0 ? 16 : 2 * old_capacity;
  map->entries = ARENA_ARRAY(map->arena, struct name_entry, map->capacity);
  for (size_t i = 0; i < old_capacity; i++)
    if (old[i].key != NULL) *find_entry(map, old[i].key, old[i].hash) = old[i];
}

void *name_map_get(const name_map_t *map, const char *key) {
  if (map->n == 0) return NULL;
  return find_entry(map, key, hash_name(key))->value;
}

void *name_map_add(name_map_t *map, const char *key, void *value) {
  if (4 * (map->n + 1) > 3 * map->capacity) grow(map);
  uint64_t hash = hash_name(key);
  struct name_entry *entry = find_entry(map, key, hash);
  if (entry->key == NULL) {
    *entry = (struct name_entry){key, hash, value};
    map->n++;
  }
  return entry->value;
}

void scope_init(scope_t *scope, scope_t *outer, arena_t *arena) {
  scope->outer = outer;
  name_map_init(&scope->names, arena);
  name_map_init(&scope->declared, arena);
}

binding_t *scope_find(const scope_t *scope, const char *name) {
  for (; scope != NULL; scope = scope->outer) {
    binding_t *binding = name_map_get(&scope->names, name);
    if (binding != NULL) return binding;
  }
  return NULL;
}

bool scope_define(scope_t *scope, const char *name, binding_t binding) {
  binding_t *cell = ARENA_NEW(scope->names.arena, binding_t);
  *cell = binding;
  return name_map_add(&scope->names, name, cell) == cell;
}
