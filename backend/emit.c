/* Shared state of code generation and the small helpers of every emitter. */
#include "backend/emit.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdatomic.h>
#include <string.h>

#include "backend/lld.h"

/* instcombine and simplifycfg only: code is emitted as it should run, so the
 * expensive passes would find nothing. */
#define PASS_LIST \
  "function(early-cse,instcombine<no-verify-fixpoint>,simplifycfg)"

static moec_status_t create_machine(emitter_t *em, LLVMCodeGenOptLevel level) {
  const isa_t *isa = em->isa;
  char *message = NULL;
  LLVMTargetRef target = NULL;
  const char *triple =
      arena_printf(em->arena, "%s-unknown-linux-gnu", isa->arch);
  if (LLVMGetTargetFromTriple(triple, &target, &message)) {
    moec_status_t status =
        diag_error(em->diag, (ir_loc_t){0}, MOEC_E_CODEGEN,
                   "LLVM has no target %s: %s", triple, message);
    LLVMDisposeMessage(message);
    return status;
  }
  em->machine =
      LLVMCreateTargetMachine(target, triple, isa->cpu, isa->features, level,
                              LLVMRelocPIC, LLVMCodeModelDefault);
  if (em->machine == NULL)
    return diag_error(em->diag, (ir_loc_t){0}, MOEC_E_CODEGEN,
                      "LLVM cannot generate code for cpu '%s' on %s", isa->cpu,
                      triple);
  LLVMSetTarget(em->module, triple);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(em->machine);
  LLVMSetModuleDataLayout(em->module, layout);
  LLVMDisposeTargetData(layout);
  return MOEC_OK;
}

static void initialise_targets(void) {
  static atomic_flag done = ATOMIC_FLAG_INIT;
  static atomic_int ready;
  if (!atomic_flag_test_and_set(&done)) {
#define TARGET(id, arch, llvm, machine) \
  LLVMInitialize##llvm##TargetInfo();   \
  LLVMInitialize##llvm##Target();       \
  LLVMInitialize##llvm##TargetMC();     \
  LLVMInitialize##llvm##AsmPrinter();   \
  LLVMInitialize##llvm##AsmParser();
#include "backend/targets.def"
#ifdef MOEC_GUARDED
    /* Calls instead of branches: faster to compile. The linker undoes it. */
    const char *const arguments[] = {
        "moec", "-asan-instrumentation-with-call-threshold=0",
        "-asan-globals=0"};
    LLVMParseCommandLineOptions(3, arguments, NULL);
#endif
    /* Loop strength reduction takes two fifths of the time of code generation
     * and gains nothing here: addresses are emitted the way they should be.
     * LLVM has no narrower switch for it than this one of the process. */
    bool known = lld_keep_flag("disable-lsr");
    MOEC_ASSERT(known);
    atomic_store(&ready, 1);
  }
  while (!atomic_load(&ready)) { /* another thread is initialising */
  }
}

moec_status_t emitter_init(emitter_t *em, const isa_t *isa, arena_t *arena,
                           const char *module_name, diag_sink_t *diag) {
  return emitter_init_level(em, isa, LLVMCodeGenLevelDefault, arena,
                            module_name, diag);
}

moec_status_t emitter_init_level(emitter_t *em, const isa_t *isa,
                                 LLVMCodeGenOptLevel level, arena_t *arena,
                                 const char *module_name, diag_sink_t *diag) {
  initialise_targets();
  *em = (emitter_t){.isa = isa, .arena = arena, .diag = diag};
  em->context = LLVMContextCreate();
  em->module = LLVMModuleCreateWithNameInContext(module_name, em->context);
  em->builder = LLVMCreateBuilderInContext(em->context);
  em->void_type = LLVMVoidTypeInContext(em->context);
  em->ptr = LLVMPointerTypeInContext(em->context, 0);
  em->i1 = LLVMInt1TypeInContext(em->context);
  em->i8 = LLVMInt8TypeInContext(em->context);
  em->i16 = LLVMInt16TypeInContext(em->context);
  em->i32 = LLVMInt32TypeInContext(em->context);
  em->i64 = LLVMInt64TypeInContext(em->context);
  em->f32 = LLVMFloatTypeInContext(em->context);
  em->f64 = LLVMDoubleTypeInContext(em->context);
  return create_machine(em, level);
}

void emitter_dispose(emitter_t *em) {
  debug_dispose(em);
  if (em->machine != NULL) LLVMDisposeTargetMachine(em->machine);
  if (em->builder != NULL) LLVMDisposeBuilder(em->builder);
  if (em->module != NULL) LLVMDisposeModule(em->module);
  if (em->context != NULL) LLVMContextDispose(em->context);
  *em = (emitter_t){0};
}

/* What the pass asan is to change. */
static void mark_functions(emitter_t *em) {
  static const char name[] = "sanitize_address";
  unsigned kind = LLVMGetEnumAttributeKindForName(name, sizeof name - 1);
  MOEC_ASSERT(kind != 0);
  LLVMAttributeRef attribute = LLVMCreateEnumAttribute(em->context, kind, 0);
  for (LLVMValueRef func = LLVMGetFirstFunction(em->module); func != NULL;
       func = LLVMGetNextFunction(func))
    if (!LLVMIsDeclaration(func))
      LLVMAddAttributeAtIndex(func, LLVMAttributeFunctionIndex, attribute);
}

/* Of the pass asan, which tell the sanitizer of globals: nobody calls those of
 * loaded objects, and two objects could not both have some. */
static void forget_constructors(emitter_t *em) {
  static const char *const lists[] = {"llvm.global_ctors", "llvm.global_dtors"};
  static const char *const functions[] = {"asan.module_ctor",
                                          "asan.module_dtor"};
  for (unsigned i = 0; i < 2; i++) {
    LLVMValueRef list = LLVMGetNamedGlobal(em->module, lists[i]);
    if (list != NULL) LLVMDeleteGlobal(list);
  }
  for (unsigned i = 0; i < 2; i++) {
    LLVMValueRef func = LLVMGetNamedFunction(em->module, functions[i]);
    if (func == NULL) continue;
    LLVMReplaceAllUsesWith(func, LLVMConstNull(em->ptr)); /* in no list */
    LLVMDeleteFunction(func);
  }
}

moec_status_t emitter_optimise(emitter_t *em) {
  char *message = NULL;
  if (LLVMVerifyModule(em->module, LLVMReturnStatusAction, &message)) {
    char *copy = arena_strdup(em->arena, message);
    LLVMDisposeMessage(message);
    MOEC_BUG("generated LLVM IR is invalid: %s", copy);
  }
  LLVMDisposeMessage(message); /* set, possibly empty, on success too */
  if (em->guarded) mark_functions(em);
  LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
  LLVMErrorRef error =
      LLVMRunPasses(em->module, em->guarded ? PASS_LIST ",asan" : PASS_LIST,
                    em->machine, options);
  LLVMDisposePassBuilderOptions(options);
  if (em->guarded) forget_constructors(em);
  if (error != NULL) {
    char *text = LLVMGetErrorMessage(error);
    char *copy = arena_strdup(em->arena, text);
    LLVMDisposeErrorMessage(text);
    MOEC_BUG("LLVM pass list: %s", copy);
  }
  return MOEC_OK;
}

moec_status_t emitter_generate(emitter_t *em, LLVMMemoryBufferRef *out_object) {
  *out_object = NULL;
  char *message = NULL;
  if (LLVMTargetMachineEmitToMemoryBuffer(
          em->machine, em->module, LLVMObjectFile, &message, out_object)) {
    moec_status_t status =
        diag_error(em->diag, (ir_loc_t){0}, MOEC_E_CODEGEN, "%s", message);
    LLVMDisposeMessage(message);
    return status;
  }
  return MOEC_OK;
}

moec_status_t emitter_finish(emitter_t *em, LLVMMemoryBufferRef *out_object) {
  *out_object = NULL;
  MOEC_TRY(emitter_optimise(em));
  return emitter_generate(em, out_object);
}

LLVMTypeRef emit_lanes(LLVMTypeRef scalar, unsigned n) {
  return n == 1 ? scalar : LLVMVectorType(scalar, n);
}

unsigned emit_lanes_of(LLVMValueRef value) {
  LLVMTypeRef type = LLVMTypeOf(value);
  return LLVMGetTypeKind(type) == LLVMVectorTypeKind ? LLVMGetVectorSize(type)
                                                     : 1;
}

LLVMTypeRef emit_element_type(LLVMValueRef value) {
  LLVMTypeRef type = LLVMTypeOf(value);
  return LLVMGetTypeKind(type) == LLVMVectorTypeKind ? LLVMGetElementType(type)
                                                     : type;
}

static LLVMValueRef splat_constant(LLVMTypeRef type, LLVMValueRef element) {
  if (LLVMGetTypeKind(type) != LLVMVectorTypeKind) return element;
  enum { MAX_LANES = 256 };
  LLVMValueRef lanes[MAX_LANES];
  unsigned n = LLVMGetVectorSize(type);
  MOEC_ASSERT(n <= MAX_LANES);
  for (unsigned i = 0; i < n; i++) lanes[i] = element;
  return LLVMConstVector(lanes, n);
}

static LLVMTypeRef scalar_of(LLVMTypeRef type) {
  return LLVMGetTypeKind(type) == LLVMVectorTypeKind ? LLVMGetElementType(type)
                                                     : type;
}

LLVMValueRef emit_const_int(LLVMTypeRef type, uint64_t value) {
  return splat_constant(type, LLVMConstInt(scalar_of(type), value, false));
}

LLVMValueRef emit_const_real(LLVMTypeRef type, double value) {
  return splat_constant(type, LLVMConstReal(scalar_of(type), value));
}

LLVMValueRef emit_splat(emitter_t *em, LLVMValueRef scalar, unsigned n) {
  if (n == 1) return scalar;
  if (LLVMIsConstant(scalar))
    return splat_constant(emit_lanes(LLVMTypeOf(scalar), n), scalar);
  LLVMTypeRef type = emit_lanes(LLVMTypeOf(scalar), n);
  LLVMValueRef one =
      LLVMBuildInsertElement(em->builder, LLVMGetPoison(type), scalar,
                             LLVMConstInt(em->i32, 0, false), "");
  return LLVMBuildShuffleVector(em->builder, one, LLVMGetPoison(type),
                                LLVMConstNull(emit_lanes(em->i32, n)), "splat");
}

LLVMValueRef emit_lane_ids(emitter_t *em, LLVMTypeRef int_scalar, unsigned n) {
  (void)em;
  if (n == 1) return LLVMConstInt(int_scalar, 0, false);
  enum { MAX_LANES = 256 };
  LLVMValueRef lanes[MAX_LANES];
  MOEC_ASSERT(n <= MAX_LANES);
  for (unsigned i = 0; i < n; i++)
    lanes[i] = LLVMConstInt(int_scalar, i, false);
  return LLVMConstVector(lanes, n);
}

LLVMValueRef emit_intrinsic(emitter_t *em, const char *name, unsigned n_types,
                            LLVMTypeRef *types, unsigned n_args,
                            LLVMValueRef *args) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  MOEC_ASSERT(id != 0);
  LLVMValueRef func =
      LLVMGetIntrinsicDeclaration(em->module, id, types, n_types);
  LLVMTypeRef type = LLVMIntrinsicGetType(em->context, id, types, n_types);
  return LLVMBuildCall2(em->builder, type, func, args, n_args, "");
}

LLVMValueRef emit_fma(emitter_t *em, LLVMValueRef a, LLVMValueRef b,
                      LLVMValueRef c) {
  if (!isa_has(em->isa, ISA_FMA))
    return LLVMBuildFAdd(em->builder, LLVMBuildFMul(em->builder, a, b, ""), c,
                         "");
  LLVMTypeRef type = LLVMTypeOf(a);
  return emit_intrinsic(em, "llvm.fma", 1, &type, 3, (LLVMValueRef[]){a, b, c});
}

LLVMValueRef emit_dot(emitter_t *em, LLVMValueRef sums, LLVMValueRef u,
                      LLVMValueRef s) {
  MOEC_ASSERT(isa_has(em->isa, ISA_DOT) && em->isa->vector_bytes == 64 &&
              emit_lanes_of(sums) == 16);
  return emit_intrinsic(em, "llvm.x86.avx512.vpdpbusd.512", 0, NULL, 3,
                        (LLVMValueRef[]){sums, u, s});
}

emit_loop_t emit_loop_begin(emitter_t *em, LLVMValueRef begin, LLVMValueRef end,
                            LLVMValueRef step, unsigned n_carry,
                            LLVMValueRef const *init, const char *name) {
  LLVMBasicBlockRef entry = LLVMGetInsertBlock(em->builder);
  LLVMValueRef func = LLVMGetBasicBlockParent(entry);
  emit_loop_t loop = {
      .head = LLVMAppendBasicBlockInContext(em->context, func, name),
      .body = LLVMAppendBasicBlockInContext(em->context, func, "body"),
      .exit = LLVMAppendBasicBlockInContext(em->context, func, "exit"),
      .step = step,
      .n_carry = n_carry,
  };
  MOEC_ASSERT(n_carry <= EMIT_MAX_CARRY);
  LLVMBuildBr(em->builder, loop.head);

  LLVMPositionBuilderAtEnd(em->builder, loop.head);
  loop.index = LLVMBuildPhi(em->builder, LLVMTypeOf(begin), "i");
  LLVMAddIncoming(loop.index, &begin, &entry, 1);
  for (unsigned c = 0; c < n_carry; c++) {
    loop.carry[c] = LLVMBuildPhi(em->builder, LLVMTypeOf(init[c]), "acc");
    LLVMValueRef value = init[c];
    LLVMAddIncoming(loop.carry[c], &value, &entry, 1);
  }
  LLVMValueRef more =
      LLVMBuildICmp(em->builder, LLVMIntSLT, loop.index, end, "more");
  LLVMBuildCondBr(em->builder, more, loop.body, loop.exit);
  LLVMPositionBuilderAtEnd(em->builder, loop.body);
  return loop;
}

void emit_loop_end(emitter_t *em, emit_loop_t *loop, LLVMValueRef const *next) {
  LLVMValueRef index =
      LLVMBuildNSWAdd(em->builder, loop->index, loop->step, "next");
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(em->builder);
  LLVMAddIncoming(loop->index, &index, &latch, 1);
  for (unsigned c = 0; c < loop->n_carry; c++) {
    LLVMValueRef value = next[c];
    LLVMAddIncoming(loop->carry[c], &value, &latch, 1);
  }
  LLVMBuildBr(em->builder, loop->head);
  LLVMPositionBuilderAtEnd(em->builder, loop->exit);
}
