/* Size expressions as code; see size.h. */
#include "backend/size.h"

typedef struct size_memo {
  const expr_t *expr; /* NULL: free */
  LLVMValueRef value;
} size_memo_t;

void size_begin(size_emitter_t *se, emitter_t *em, LLVMValueRef symbols,
                bool checked) {
  *se = (size_emitter_t){.em = em, .symbols = symbols, .checked = checked};
  se->memo_mask = 63;
  se->memo = ARENA_ARRAY(em->arena, size_memo_t, se->memo_mask + 1);
}

void size_forget(size_emitter_t *se) {
  for (unsigned i = 0; i <= se->memo_mask; i++) se->memo[i].expr = NULL;
  se->memo_count = 0;
}

static size_memo_t *find(size_memo_t *memo, unsigned mask, const expr_t *e) {
  unsigned i = (unsigned)(e->hash & mask);
  while (memo[i].expr != NULL && memo[i].expr != e) i = (i + 1) & mask;
  return &memo[i];
}

static void remember(size_emitter_t *se, const expr_t *e, LLVMValueRef value) {
  if (2 * se->memo_count > se->memo_mask) {
    unsigned mask = se->memo_mask * 2 + 1;
    size_memo_t *memo = ARENA_ARRAY(se->em->arena, size_memo_t, mask + 1);
    for (unsigned i = 0; i <= se->memo_mask; i++)
      if (se->memo[i].expr != NULL)
        *find(memo, mask, se->memo[i].expr) = se->memo[i];
    se->memo = memo;
    se->memo_mask = mask;
  }
  *find(se->memo, se->memo_mask, e) = (size_memo_t){e, value};
  se->memo_count++;
}

static LLVMValueRef i64(size_emitter_t *se, int64_t value) {
  return LLVMConstInt(se->em->i64, (uint64_t)value, true);
}

LLVMValueRef emit_symbol_address(size_emitter_t *se,
                                 const expr_symbol_t *symbol) {
  LLVMValueRef index = i64(se, symbol->index);
  return LLVMBuildInBoundsGEP2(se->em->builder, se->em->i64, se->symbols,
                               &index, 1, symbol->name);
}

static LLVMValueRef arithmetic(size_emitter_t *se, bool multiply,
                               LLVMValueRef a, LLVMValueRef b) {
  LLVMBuilderRef at = se->em->builder;
  if (!se->checked)
    return multiply ? LLVMBuildMul(at, a, b, "") : LLVMBuildAdd(at, a, b, "");
  LLVMTypeRef type = se->em->i64;
  LLVMValueRef both = emit_intrinsic(
      se->em, multiply ? "llvm.smul.with.overflow" : "llvm.sadd.with.overflow",
      1, &type, 2, (LLVMValueRef[]){a, b});
  LLVMValueRef flag = LLVMBuildExtractValue(at, both, 1, "");
  se->overflow = se->overflow ? LLVMBuildOr(at, se->overflow, flag, "") : flag;
  return LLVMBuildExtractValue(at, both, 0, "");
}

/* Division by zero gives 0. */
static LLVMValueRef floor_divide(size_emitter_t *se, bool remainder,
                                 LLVMValueRef a, LLVMValueRef b) {
  LLVMBuilderRef at = se->em->builder;
  LLVMValueRef zero = i64(se, 0), one = i64(se, 1);
  LLVMValueRef by_zero = LLVMBuildICmp(at, LLVMIntEQ, b, zero, "");
  LLVMValueRef d = LLVMBuildSelect(at, by_zero, one, b, "");
  LLVMValueRef q = LLVMBuildSDiv(at, a, d, "");
  LLVMValueRef r = LLVMBuildSub(at, a, LLVMBuildMul(at, q, d, ""), "");
  LLVMValueRef rest = LLVMBuildICmp(at, LLVMIntNE, r, zero, "");
  LLVMValueRef signs = LLVMBuildXor(at, r, d, "");
  LLVMValueRef differ = LLVMBuildICmp(at, LLVMIntSLT, signs, zero, "");
  LLVMValueRef down = LLVMBuildAnd(at, rest, differ, "");
  q = LLVMBuildSelect(at, down, LLVMBuildSub(at, q, one, ""), q, "");
  r = LLVMBuildSelect(at, down, LLVMBuildAdd(at, r, d, ""), r, "");
  return LLVMBuildSelect(at, by_zero, zero, remainder ? r : q, "");
}

static LLVMValueRef emit_atom(size_emitter_t *se, const expr_atom_t *atom) {
  LLVMBuilderRef at = se->em->builder;
  if (atom->kind == EXPR_ATOM_SYMBOL)
    return LLVMBuildLoad2(at, se->em->i64,
                          emit_symbol_address(se, atom->symbol),
                          atom->symbol->name);
  LLVMValueRef a = emit_size(se, atom->a);
  LLVMValueRef b = atom->b != NULL ? emit_size(se, atom->b) : NULL;
  LLVMValueRef one = i64(se, 1), cond;
  switch (atom->kind) {
    case EXPR_ATOM_FLOORDIV:
      return floor_divide(se, false, a, b);
    case EXPR_ATOM_MOD:
      return floor_divide(se, true, a, b);
    case EXPR_ATOM_MIN:
      cond = LLVMBuildICmp(at, LLVMIntSLT, a, b, "");
      return LLVMBuildSelect(at, cond, a, b, "");
    case EXPR_ATOM_MAX:
      cond = LLVMBuildICmp(at, LLVMIntSGT, a, b, "");
      return LLVMBuildSelect(at, cond, a, b, "");
    case EXPR_ATOM_BROADCAST:
      cond = LLVMBuildICmp(at, LLVMIntEQ, a, one, "");
      return LLVMBuildSelect(at, cond, b, a, "");
    case EXPR_ATOM_IS_ONE:
      cond = LLVMBuildICmp(at, LLVMIntEQ, a, one, "");
      return LLVMBuildZExt(at, cond, se->em->i64, "");
    default:
      MOEC_BUG("unknown kind of size");
  }
}

static LLVMValueRef emit_term(size_emitter_t *se, const expr_t *e, unsigned t) {
  const expr_term_t *term = &e->terms[t];
  LLVMValueRef product = NULL;
  for (unsigned i = 0; i < term->n_atoms; i++) {
    LLVMValueRef atom = emit_atom(se, term->atoms[i]);
    product = product ? arithmetic(se, true, product, atom) : atom;
  }
  LLVMValueRef coefficient = i64(se, term->coefficient);
  if (product == NULL) return coefficient;
  return term->coefficient == 1 ? product
                                : arithmetic(se, true, product, coefficient);
}

LLVMValueRef emit_size(size_emitter_t *se, const expr_t *e) {
  size_memo_t *known = find(se->memo, se->memo_mask, e);
  if (known->expr != NULL) return known->value;
  LLVMValueRef sum = e->n_terms > 0 ? emit_term(se, e, 0) : i64(se, 0);
  for (unsigned t = 1; t < e->n_terms; t++)
    sum = arithmetic(se, false, sum, emit_term(se, e, t));
  remember(se, e, sum);
  return sum;
}
