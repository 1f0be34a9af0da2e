/*
 * grammar/ebnf.h - rules as llama.cpp and others write them (GBNF):
 *
 *     root  ::= "yes" | "no" | "(" list ")"     # a comment
 *     list  ::= item ("," item)*
 *     item  ::= [a-z_] [^,()]{0,9}
 *
 * A rule ends where the next one begins. Literals and classes know \n \r \t \\ \" \[ \] \- \xHH
 * \uHHHH \UHHHHHHHH; "." is any character; counts are * + ? {n} {n,} {n,m}.
 */
#ifndef OCT_GRAMMAR_EBNF_H
#define OCT_GRAMMAR_EBNF_H

#include "grammar/build.h"

enum { OCT_EBNF_MAX_DEPTH = 100 }; /* of groups */

/* The rule `root`; a failure is the builder's. */
uint32_t oct_ebnf_rules(oct_build *b, oct_str text);

#endif
