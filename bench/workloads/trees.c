/* trees.c: binary trees of growing depth: one long-lived, many short-lived, walked and freed node by node.
 * usage: trees DEPTH
 * SPDX-License-Identifier: MIT */
#include "workload.h"

struct node {
    struct node *left, *right;
};

static uint64_t operations;

static struct node *tree_new(int depth) {
    struct node *n = must(malloc(sizeof *n));
    operations++;
    n->left = depth > 0 ? tree_new(depth - 1) : NULL;
    n->right = depth > 0 ? tree_new(depth - 1) : NULL;
    return n;
}

static uint64_t tree_free(struct node *n) {
    uint64_t count = 1;
    if (n->left) count += tree_free(n->left) + tree_free(n->right);
    free(n);
    return count;
}

int main(int argc, char **argv) {
    int most = (int)argument(argc, argv, 1, 18);
    uint64_t sum = tree_free(tree_new(most + 1));
    struct node *kept = tree_new(most);
    for (int depth = 4; depth <= most; depth += 4)
        for (int n = 1 << (most - depth + 4); n > 0; n--) sum += tree_free(tree_new(depth));
    sum += tree_free(kept);
    return report("trees", operations, sum);
}
