# SPDX-License-Identifier: MIT
# words.pl ROUNDS: hashes of arrays of strings, splitting, joining, sorting and substituting, as scripts that read logs do.
use strict;
use warnings;

my $rounds = shift // 3;
my ($state, $sum) = (12345, 0);
sub below { $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $_[0]; }

for my $round (1 .. $rounds) {
    my %lines_of;
    for my $line (1 .. 40000) {
        my $text = join ' ', map { 'w' . below(3000) } 1 .. 3 + below(8);
        $text =~ s/w(\d)7/x$1-seven/g;
        push @{ $lines_of{$_} }, "$line:$text" for split / /, $text;
    }
    for my $word (sort { @{ $lines_of{$b} } <=> @{ $lines_of{$a} } || $a cmp $b } keys %lines_of) {
        $sum = ($sum * 31 + length join(',', sort @{ delete $lines_of{$word} })) % 1000000007;
    }
}
print "$sum\n";
