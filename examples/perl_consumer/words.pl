# A handler for consumer.pl: counts the words of the payload's text.
use strict;
use warnings;

sub handle {
    my ($job) = @_;
    my $text = $job->{payload}{text} // die { message => 'the payload has no text', type => 'NoText', final => 1 };
    my @words = split ' ', $text;
    return { words => scalar @words };
}

1;
