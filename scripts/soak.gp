# gnuplot -e 'in="soak.txt"; out="docs/soak.png"' scripts/soak.gp
# What TestSoak measured: memory and descriptors above, straces and hits below, and a
# line for each fault.
set terminal pngcairo size 1100,700 font 'DejaVu Sans,10'
set output out
set multiplot layout 2,1 margins 0.08,0.92,0.09,0.95 spacing 0.08
set grid
set key top left horizontal
faults = system("sed -n 's/^# \\([0-9]*\\) .*/\\1/p' ".in)
do for [i = 1:words(faults)] {
	set arrow i from word(faults, i) + 0, graph 0 to word(faults, i) + 0, graph 1 nohead linecolor rgb '#dddddd' back
}
set xrange [0:*]
set yrange [0:*]
set y2range [0:*]
set y2tics
set ytics nomirror
set ylabel 'MiB'
set y2label 'descriptors'
set title 'culprit run: 100 packets/s, 20 programs/s, a fault at each grey line'
plot in using 1:2 with lines title 'memory of the daemon' linewidth 1.5, \
     in using 1:3 with lines title 'memory of the gate', \
     in using 1:4 axes x1y2 with lines title 'descriptors of the daemon'
unset title
set xlabel 'seconds'
set ylabel 'straces'
set y2label 'hits'
plot in using 1:5 with lines title 'straces', \
     in using 1:6 axes x1y2 with lines title 'hits so far' linewidth 1.5
