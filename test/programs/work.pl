# SPDX-License-Identifier: MIT
# work.pl: hashes, regular expressions, sorting, closures and string growth for perl.
use strict;
use warnings;

my $state = 42;
sub next_number { $state = ($state * 1103515245 + 12345) % 2147483648; return $state >> 8; }

my (%count, %by_length, @records);
for my $i (1 .. 120000) {
    my $word = join '', map { chr(97 + next_number() % 26) } 1 .. 2 + next_number() % 5;
    $count{$word}++;
    push @{$by_length{length $word}}, $word if $i % 3 == 0;
    push @records, {id => $i, word => $word, list => [1 .. next_number() % 6]} if $i % 4 == 0;
}
printf "words %d\n", scalar keys %count;
for my $word ((sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 19]) { print "$word $count{$word}\n"; }
for my $n (sort { $a <=> $b } keys %by_length) { printf "%d: %d %s\n", $n, scalar @{$by_length{$n}}, (sort @{$by_length{$n}})[0]; }

my @sorted = sort { $a->{word} cmp $b->{word} || $b->{id} <=> $a->{id} } @records;
print "$sorted[0]{id} $sorted[-1]{id} ", scalar(map { @{$_->{list}} } @sorted), "\n";

my $text = join ' ', map { $_->{word} } @records;
my $matches = () = $text =~ /\b([aeiou]\w+)\b/g;
(my $changed = $text) =~ s/(\w)(\w+)/\u$1$2-/g;
my %first;
$first{$1}++ while $changed =~ /([A-Z])/g;
print "$matches ", length($changed), " ", join(',', map { "$_$first{$_}" } sort keys %first), "\n";

my $grown = '';
$grown .= 'x' x (next_number() % 100) . "\n" for 1 .. 50000;
my @lines = split /\n/, $grown;
my @closures = map { my $n = $_; sub { $n += length $lines[$n % @lines] } } 1 .. 20000;
my $sum = 0;
$sum += $_->() for @closures, @closures;
print scalar(@lines), " $sum\n";
delete $count{$_} for grep { next_number() % 2 } sort keys %count;
print scalar(keys %count), "\n";
