#include "expr.h"

static char operator_of(struct ell_json value)
{
    static const struct {
        const char *name;
        char op;
    } operators[] = {{"+", '+'}, {"*", '*'}, {"/", '/'}, {"min", '<'}, {"max", '>'}};
    if (!ell_json_is(value, ELL_STRING))
        return 0;
    struct ell_text name = {value.at + 1, (size_t)(value.end - value.at) - 2};
    for (size_t i = 0; i < ELL_COUNT(operators); i++)
        if (ell_text_is(name, operators[i].name))
            return operators[i].op;
    return 0;
}

static bool refuse(struct ell_json value, struct ell_error *error)
{
    struct ell_text text = {value.at, (size_t)(value.end - value.at)};
    return ell_fail(error, "%.*s is no expression over the sizes of this plan", ELL_SHOWN(text));
}

static bool read(struct ell_json value, const struct ell_map *names, struct ell_arena *arena,
                 struct ell_expr *expr, unsigned depth, struct ell_error *error)
{
    switch (ell_json_type(value)) {
    case ELL_NUMBER:
        *expr = (struct ell_expr){'0', 0, NULL, NULL};
        return ell_json_whole(value, &expr->value) || refuse(value, error);
    case ELL_STRING: {
        struct ell_text name = {value.at + 1, (size_t)(value.end - value.at) - 2};
        uint32_t size = ell_map_find(names, name);
        *expr = (struct ell_expr){'s', size, NULL, NULL};
        return size != ELL_NOWHERE || refuse(value, error);
    }
    case ELL_ARRAY:
        break;
    default:
        return refuse(value, error);
    }
    struct ell_json parts[3];
    struct ell_json_walk walk = ell_json_values(value);
    for (size_t i = 0; i < 3; i++)
        if (!ell_json_next(&walk, NULL, &parts[i]))
            return refuse(value, error);
    struct ell_json more;
    char op = operator_of(parts[0]);
    if (op == 0 || ell_json_next(&walk, NULL, &more))
        return refuse(value, error);
    if (depth == 0)
        return ell_fail(error, "an expression has more than %d operators within each other", ELL_EXPR_DEPTH);
    int64_t divisor;
    if (op == '/' && (!ell_json_whole(parts[2], &divisor) || divisor < 1))
        return ell_fail(error, "an expression does not divide by a whole number");
    struct ell_expr *sides = ell_arena_new(arena, 2, sizeof *sides);
    if (sides == NULL)
        return ell_fail_memory(error);
    *expr = (struct ell_expr){op, 0, &sides[0], &sides[1]};
    return read(parts[1], names, arena, &sides[0], depth - 1, error) &&
           read(parts[2], names, arena, &sides[1], depth - 1, error);
}

bool ell_expr_read(struct ell_json value, const struct ell_map *names, struct ell_arena *arena,
                   struct ell_expr *expr, struct ell_error *error)
{
    return read(value, names, arena, expr, ELL_EXPR_DEPTH, error);
}

int64_t ell_times(int64_t a, int64_t b)
{
    if (a < 0 || b < 0 || (a != 0 && b > ELL_LARGEST / a))
        return -1;
    return a * b;
}

int64_t ell_expr_value(const struct ell_expr *expr, const int64_t *sizes)
{
    if (expr->op == '0')
        return expr->value;
    if (expr->op == 's')
        return sizes[expr->value];
    int64_t left = ell_expr_value(expr->left, sizes), right = ell_expr_value(expr->right, sizes);
    if (left < 0 || right < 0)
        return -1;
    switch (expr->op) {
    case '+':
        return left + right > ELL_LARGEST ? -1 : left + right;
    case '*':
        return ell_times(left, right);
    case '/':
        return left / right + (left % right != 0);
    case '<':
        return left < right ? left : right;
    default:
        return left > right ? left : right;
    }
}

bool ell_expr_chosen(const struct ell_expr *expr, const int64_t *largest)
{
    if (expr->op == 's')
        return largest[expr->value] == 0;
    return expr->left != NULL &&
           (ell_expr_chosen(expr->left, largest) || ell_expr_chosen(expr->right, largest));
}
