/* A plugin for qemu-user (TCG, plugin API 1) that counts the guest's executed instructions between getppid() calls.
 *
 *     cc -O2 -shared -fPIC -o count.so count.c
 *     qemu-aarch64 -plugin file=count.so,out=FILE ...
 *
 * Every second getppid() closes a region and appends a line to FILE:
 *     instructions  4-lane FMAs  2-lane FMAs  scalar FMAs
 * An FMA is FMLA or FMLS, by vector or by element; scalar ones are also FMADD, FMSUB, FNMADD and FNMSUB. Lanes of 4
 * are floats (.4s); lanes of 2 are floats (.2s) or doubles (.2d).
 *
 * Counters are added to without locks, so a region in which several threads run may lose counts.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* No package has qemu's header: the parts of include/qemu/qemu-plugin.h (QEMU 7.2) that are needed. */
typedef uint64_t qemu_plugin_id_t;
struct qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*tb_trans_cb_t)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*syscall_cb_t)(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t, uint64_t, uint64_t,
                             uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_trans_cb_t cb);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, syscall_cb_t cb);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op, void *counter,
                                              uint64_t add);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

#define GETPPID 173 /* of the generic Linux system call table, which arm64 has */

enum { INSTRUCTIONS, LANES_4, LANES_2, SCALAR, KINDS };
static uint64_t counters[KINDS], start[KINDS];
static int counting;
static FILE *out;

/* The kind of FMA that an instruction word is, or INSTRUCTIONS for any other instruction. Arm ARM, C4.1. */
static int kind(uint32_t word)
{
    int quad = word >> 30 & 1, is_double = word >> 22 & 1;

    /* FMLA, FMLS (vector):     0 Q 0 01110 o sz 1 Rm 11001 1 Rn Rd */
    /* FMLA, FMLS (by element): 0 Q 0 01111 1 sz L M Rm 0 o 01 H 0 Rn Rd */
    if ((word & 0xBF20FC00) == 0x0E20CC00 || (word & 0xBF80B400) == 0x0F801000)
        return quad && !is_double ? LANES_4 : LANES_2;
    /* the same by element, scalar: 01 0 11111 1 sz ...; FMADD and its like: 00011111 type o1 Rm o0 Ra Rn Rd */
    if ((word & 0xFF80B400) == 0x5F801000 || (word & 0xFF000000) == 0x1F000000)
        return SCALAR;
    return INSTRUCTIONS;
}

/* A block of code was translated: whenever it runs, the counters grow by what is in it. */
static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t found[KINDS] = {0};
    size_t n = qemu_plugin_tb_n_insns(tb);

    (void)id;
    for (size_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof word);
        found[kind(word)]++;
    }
    found[INSTRUCTIONS] = n;
    for (int k = 0; k < KINDS; k++)
        if (found[k])
            qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &counters[k], found[k]);
}

/* A system call ends its block, so a region's borders are exact to the instruction. */
static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)vcpu, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != GETPPID)
        return;
    if (counting) {
        for (int k = 0; k < KINDS; k++)
            fprintf(out, "%llu%c", (unsigned long long)(counters[k] - start[k]), k + 1 < KINDS ? ' ' : '\n');
        fflush(out);
    }
    counting = !counting;
    memcpy(start, counters, sizeof start);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || !(out = fopen(argv[0] + 4, "a"))) {
        fprintf(stderr, "count.so: give it a file that can be written, out=FILE\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
